package org.runomics.nextflow.schema;

import groovy.lang.GString;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import nextflow.Nextflow;
import nextflow.Session;
import nextflow.extension.FilesEx;
import nextflow.plugin.extension.Function;
import nextflow.plugin.extension.PluginExtensionPoint;
import nextflow.script.WorkflowMetadata;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The functions that pipelines include from `plugin/nf-schema` and `plugin/nf-validation`. */
public final class SchemaFunctions extends PluginExtensionPoint {
    /** Nextflow shows on its console what is logged below its own name. */
    private static final Logger LOG = LoggerFactory.getLogger("nextflow.validation");
    private static final Set<String> IGNORED = Set.of("help", "helpFull", "help_full", "showHidden", "show_hidden", "nf_test_output");
    private static final Set<String> OPTIONS = Set.of("profile", "resume", "name", "r", "revision", "w", "work-dir", "c", "config", "params-file", "stub", "stub-run", "entry", "latest", "log", "q", "quiet", "plugins", "with-report", "with-trace", "with-timeline", "with-dag");

    private Session session;

    @Override
    protected void init(Session created) {
        session = created;
    }

    // ---- parameters ----------------------------------------------------------------------------------------------

    @Function
    public void validateParameters() {
        validateParameters(Map.of());
    }

    @Function
    public void validateParameters(Map<?, ?> options) {
        try {
            SchemaCheck check = new SchemaCheck(schema(options), Values.json(parameters()), base());
            List<String> wrong = new ArrayList<>(check.errors(SchemaCheck.Kind.parameter));
            List<String> unexpected = new ArrayList<>();
            for (String name : wrong.isEmpty() ? check.unknown() : List.<String>of()) {
                if (OPTIONS.contains(name)) wrong.add("You used a core Nextflow option with two hyphens: '--" + name + "'. Please resubmit with '-" + name + "'");
                else if (!isIgnored(name)) unexpected.add("* --" + name + ": " + parameters().get(name));
            }
            wrong.removeIf(error -> ignored().stream().anyMatch(name -> error.startsWith("* --" + name + " ")));
            if (!unexpected.isEmpty()) {
                String text = "The following invalid input values have been detected:\n\n" + String.join("\n", unexpected) + "\n\n";
                if (setting("failUnrecognisedParams") == Boolean.TRUE || parameters().get("validationFailUnrecognisedParams") == Boolean.TRUE) throw new InvalidAgainstSchema(text);
                LOG.warn(text);
            }
            if (wrong.isEmpty()) return;
            LOG.error("Validation of pipeline parameters failed!");
            throw new InvalidAgainstSchema("The following invalid input values have been detected:\n\n" + String.join("\n", wrong).strip() + "\n\n");
        } catch (IOException unreadable) {
            throw new UncheckedIOException(unreadable);
        }
    }

    @Function
    public Map<String, Object> paramsSummaryMap(WorkflowMetadata workflow) {
        return paramsSummaryMap(Map.of(), workflow);
    }

    @Function
    public Map<String, Object> paramsSummaryMap(Map<?, ?> options, WorkflowMetadata workflow) {
        Map<String, Object> found = new LinkedHashMap<>();
        groups(options).forEach((title, properties) -> found.put(title, changed(parameters(), properties)));
        Map<String, Object> core = new LinkedHashMap<>();
        if (workflow.getRevision() != null) core.put("revision", workflow.getRevision());
        core.put("runName", workflow.getRunName());
        if (workflow.getContainerEngine() != null) core.put("containerEngine", workflow.getContainerEngine());
        core.put("launchDir", text(workflow.getLaunchDir()));
        core.put("workDir", text(workflow.getWorkDir()));
        core.put("projectDir", text(workflow.getProjectDir()));
        core.put("userName", workflow.getUserName());
        core.put("profile", workflow.getProfile());
        core.put("configFiles", String.join(", ", workflow.getConfigFiles().stream().map(String::valueOf).toList()));
        found.put("Core Nextflow options", core);
        return found;
    }

    @Function
    public String paramsSummaryLog(WorkflowMetadata workflow) {
        return paramsSummaryLog(Map.of(), workflow);
    }

    @Function
    public String paramsSummaryLog(Map<?, ?> options, WorkflowMetadata workflow) {
        Map<String, Map<String, Object>> groups = new LinkedHashMap<>();
        paramsSummaryMap(options, workflow).forEach((title, members) -> {
            Map<String, Object> flat = new LinkedHashMap<>();
            flatten("", (Map<?, ?>) members, flat);
            groups.put(title, flat);
        });
        int width = groups.values().stream().flatMap(group -> group.keySet().stream()).mapToInt(String::length).max().orElse(0);
        StringBuilder text = new StringBuilder(surrounding("beforeText"));
        groups.forEach((title, members) -> {
            if (members.isEmpty()) return;
            text.append(title).append('\n');
            members.forEach((name, value) -> text.append("  ").append(name).append(" ".repeat(width - name.length())).append(": ").append(value).append('\n'));
            text.append('\n');
        });
        text.append("!! Only displaying parameters that differ from the pipeline defaults !!\n");
        return text.append("------------------------------------------------------").append(surrounding("afterText")).toString();
    }

    @Function
    public String paramsHelp() {
        return paramsHelp(Map.of(), "");
    }

    @Function
    public String paramsHelp(CharSequence command) {
        return paramsHelp(Map.of(), command);
    }

    @Function
    public String paramsHelp(Map<?, ?> options) {
        return paramsHelp(options, "");
    }

    @Function
    public String paramsHelp(Map<?, ?> options, CharSequence command) {
        Object told = options.get("command");
        StringBuilder text = new StringBuilder("Typical pipeline command:\n\n  " + (told == null ? command : told) + "\n\n");
        groups(options).forEach((title, properties) -> {
            int width = properties.keySet().stream().mapToInt(name -> String.valueOf(name).length()).max().orElse(0);
            text.append(title).append('\n');
            properties.forEach((name, described) -> {
                Map<?, ?> about = described instanceof Map<?, ?> map ? map : Map.of();
                if (about.get("hidden") == Boolean.TRUE && options.get("showHidden") != Boolean.TRUE) return;
                Object description = about.get("description");
                text.append(String.format("  --%-" + (width + 1) + "s[%s] %s", name, about.get("type"), description == null ? "" : description));
                if (about.get("default") != null) text.append(" [default: ").append(about.get("default")).append(']');
                text.append('\n');
            });
            text.append('\n');
        });
        return text.toString();
    }

    // ---- samplesheets --------------------------------------------------------------------------------------------

    @Function
    public List<Object> samplesheetToList(Object sheet, Object schema) {
        return samplesheetToList(sheet, schema, Map.of());
    }

    @Function
    public List<Object> samplesheetToList(Object sheet, Object schema, Map<?, ?> options) {
        try {
            Path schemaFile = schema instanceof Path path ? path : base().resolve(schema.toString());
            Path sheetFile = sheet instanceof Path path ? path : (Path) Nextflow.file(sheet.toString());
            return Samplesheet.list(sheetFile, schemaFile, base(), setting("failUnrecognisedHeaders") == Boolean.TRUE);
        } catch (IOException unreadable) {
            throw new UncheckedIOException(unreadable);
        }
    }

    // ---- what they share -----------------------------------------------------------------------------------------

    private Map<?, ?> parameters() {
        return session.getParams();
    }

    private Path base() {
        return session.getBaseDir();
    }

    private Object setting(String name) {
        return session.getConfig().get("validation") instanceof Map<?, ?> settings ? settings.get(name) : null;
    }

    private Path schema(Map<?, ?> options) {
        Object named = options == null ? null : options.get("parameters_schema");
        if (named == null) named = setting("parametersSchema");
        return base().resolve(named == null ? "nextflow_schema.json" : named.toString());
    }

    private Set<String> ignored() {
        Set<String> names = new TreeSet<>(IGNORED);
        for (String name : List.of("ignoreParams", "defaultIgnoreParams")) {
            if (setting(name) instanceof List<?> list) list.forEach(one -> names.add(String.valueOf(one)));
        }
        Object older = parameters().get("validationSchemaIgnoreParams");
        if (older instanceof CharSequence text) names.addAll(List.of(text.toString().split(",")));
        return names;
    }

    private boolean isIgnored(String name) {
        // Names with hyphens are kept in both forms; settings of the older plugin are parameters.
        boolean twin = name.contains("-") || parameters().keySet().stream().anyMatch(other -> String.valueOf(other).contains("-") && camel(String.valueOf(other)).equals(name));
        return twin || name.startsWith("validation") || ignored().contains(name);
    }

    private static String camel(String name) {
        StringBuilder found = new StringBuilder();
        for (String part : name.split("-")) found.append(found.isEmpty() || part.isEmpty() ? part : Character.toUpperCase(part.charAt(0)) + part.substring(1));
        return found.toString();
    }

    private String surrounding(String name) {
        Object found = setting("summary") instanceof Map<?, ?> summary ? summary.get(name) : null;
        return found instanceof String || found instanceof GString ? found.toString() : "";
    }

    /** Titles of the schema's groups with their properties. */
    private Map<String, Map<?, ?>> groups(Map<?, ?> options) {
        Map<String, Map<?, ?>> found = new LinkedHashMap<>();
        try {
            if (!Files.exists(schema(options))) return found;
            Map<String, Object> document = Values.object(schema(options));
            for (String keyword : List.of("$defs", "definitions", "defs")) {
                if (!(document.get(keyword) instanceof Map<?, ?> groups)) continue;
                groups.forEach((name, group) -> {
                    if (!(group instanceof Map<?, ?> map) || !(map.get("properties") instanceof Map<?, ?> properties)) return;
                    found.put(map.get("title") == null ? String.valueOf(name) : String.valueOf(map.get("title")), properties);
                });
            }
            if (document.get("properties") instanceof Map<?, ?> properties && !properties.isEmpty()) found.put("Other parameters", properties);
        } catch (IOException unreadable) {
            throw new UncheckedIOException(unreadable);
        }
        return found;
    }

    /** Parameters that are not what the schema has as default. */
    private Map<String, Object> changed(Map<?, ?> given, Map<?, ?> properties) {
        Map<String, Object> found = new LinkedHashMap<>();
        properties.forEach((name, described) -> {
            if (!given.containsKey(name)) return;
            Map<?, ?> told = described instanceof Map<?, ?> map ? map : Map.of();
            Object value = given.get(name);
            if (value instanceof Map<?, ?> nested && told.get("properties") instanceof Map<?, ?> inner) {
                found.put(String.valueOf(name), changed(nested, inner));
                return;
            }
            String text = value instanceof Path path ? FilesEx.toUriString(path) : value == null ? null : value.toString();
            if (text == null) return;
            Object usual = told.get("default");
            if (usual == null ? !text.isEmpty() && !text.equals("false") : !isUsual(text, usual.toString())) found.put(String.valueOf(name), text);
        });
        return found;
    }

    private boolean isUsual(String value, String usual) {
        if (value.equals(usual)) return true;
        String filled = usual.replace("${projectDir}", base().toString()).replace("$projectDir", base().toString());
        String outdir = String.valueOf(parameters().get("outdir"));
        return value.equals(filled.replace("${params.outdir}", outdir).replace("$params.outdir", outdir));
    }

    private static void flatten(String prefix, Map<?, ?> members, Map<String, Object> into) {
        members.forEach((name, value) -> {
            if (value instanceof Map<?, ?> nested) flatten(prefix + name + ".", nested, into);
            else into.put(prefix + name, value);
        });
    }

    private static String text(Path path) {
        return path == null ? "" : FilesEx.toUriString(path);
    }
}
