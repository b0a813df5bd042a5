package org.runomics.nextflow.schema;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import nextflow.Nextflow;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** A samplesheet as a list for channels: in the schema's order, members marked `meta` gathered in a map at the front, paths as files. */
final class Samplesheet {
    /** Nextflow shows on its console what is logged below its own name. */
    private static final Logger LOG = LoggerFactory.getLogger("nextflow.validation");
    private static final Set<String> PATHS = Set.of("file-path", "path", "directory-path", "file-path-pattern");

    private final Set<String> unknown = new LinkedHashSet<>();

    private Samplesheet() {}

    static boolean hasNames(Map<String, Object> schema) {
        return schema.get("items") instanceof Map<?, ?> items && items.get("properties") instanceof Map<?, ?> properties && !properties.isEmpty();
    }

    static List<Object> list(Path sheet, Path schemaFile, Path base, boolean failsOnUnknown) throws IOException {
        if (!Files.exists(schemaFile)) throw new InvalidAgainstSchema("JSON schema file " + schemaFile + " does not exist\n");
        Map<String, Object> schema = Values.object(schemaFile);
        if (schema.containsKey("properties") || !schema.containsKey("items")) {
            throw new InvalidAgainstSchema("The schema for '" + sheet + "' (" + schemaFile
                    + ") is not valid. Please make sure that 'items' is the top level keyword and not 'properties'\n");
        }
        if (!Files.exists(sheet)) throw new InvalidAgainstSchema("Samplesheet file " + sheet + " does not exist\n");
        Object table = Values.table(sheet, hasNames(schema));
        List<String> wrong = new SchemaCheck(schemaFile, Values.json(table), base).errors(SchemaCheck.Kind.field);
        if (!wrong.isEmpty()) {
            throw new InvalidAgainstSchema("The following errors have been detected in " + sheet + ":\n\n" + String.join("\n", wrong).strip() + "\n\n");
        }
        Samplesheet converter = new Samplesheet();
        List<Object> rows = new ArrayList<>();
        for (Object row : (List<?>) table) rows.add(converter.row(row, (Map<?, ?>) schema.get("items")));
        converter.tellUnknown(sheet, failsOnUnknown);
        return rows;
    }

    private Object row(Object value, Map<?, ?> schema) {
        Map<String, Object> meta = new LinkedHashMap<>();
        Object converted = converted(value, schema, "", meta);
        if (meta.isEmpty()) return converted;
        List<Object> found = new ArrayList<>(List.of(meta));
        if (converted instanceof List<?> items) found.addAll(items);
        else found.add(converted);
        return found;
    }

    /** `meta` null: inside a member that goes to the map whole, where objects stay objects. */
    private Object converted(Object given, Map<?, ?> schema, String prefix, Map<String, Object> meta) {
        Object value = given != null ? given : schema.containsKey("default") ? schema.get("default") : List.of();
        if (value instanceof Map<?, ?> object && deep(schema, "properties") instanceof Map<?, ?> properties) {
            for (Object name : object.keySet()) if (!properties.containsKey(name)) unknown.add(prefix + name);
            List<Object> items = new ArrayList<>();
            Map<String, Object> members = new LinkedHashMap<>();
            properties.forEach((name, described) -> {
                Map<?, ?> inner = described instanceof Map<?, ?> map ? map : Map.of();
                String below = prefix + name + ".";
                List<String> targets = targets(inner.get("meta"));
                if (meta == null) members.put(String.valueOf(name), converted(object.get(name), inner, below, null));
                else if (targets.isEmpty()) items.add(converted(object.get(name), inner, below, meta));
                else for (String target : targets) meta.put(target, converted(object.get(name), inner, below, null));
            });
            return meta == null ? members : items;
        }
        if (value instanceof List<?> list) {
            Map<?, ?> inner = deep(schema, "items") instanceof Map<?, ?> map ? map : Map.of();
            List<Object> items = new ArrayList<>();
            for (int i = 0; i < list.size(); i++) items.add(converted(list.get(i), inner, prefix + i + ".", meta));
            return items;
        }
        return value instanceof CharSequence text && isPath(text.toString(), schema) ? Nextflow.file(text.toString()) : value;
    }

    private static List<String> targets(Object meta) {
        if (meta instanceof String name) return List.of(name);
        return meta instanceof List<?> names ? names.stream().map(String::valueOf).toList() : List.of();
    }

    /** A keyword of the schema itself or of one of its alternatives. */
    private static Object deep(Map<?, ?> schema, String keyword) {
        if (schema.containsKey(keyword)) return schema.get(keyword);
        for (Map<?, ?> alternative : alternatives(schema)) if (alternative.containsKey(keyword)) return alternative.get(keyword);
        return null;
    }

    private static List<Map<?, ?>> alternatives(Map<?, ?> schema) {
        List<Map<?, ?>> found = new ArrayList<>();
        for (String keyword : List.of("anyOf", "oneOf", "allOf")) {
            if (schema.get(keyword) instanceof List<?> list) for (Object one : list) if (one instanceof Map<?, ?> map) found.add(map);
        }
        return found;
    }

    /** Where a text may be a path or not, one with a slash or something like an extension is taken for one. */
    private static boolean isPath(String value, Map<?, ?> schema) {
        boolean path = false;
        boolean plain = false;
        List<Map<?, ?>> all = new ArrayList<>(alternatives(schema));
        all.add(schema);
        for (Map<?, ?> one : all) {
            if (!"string".equals(one.get("type"))) continue;
            Object format = one.containsKey("format") ? one.get("format") : schema.get("format");
            if (PATHS.contains(String.valueOf(format))) path = true;
            else plain = true;
        }
        if (!path || !plain) return path;
        return value.contains("/") || value.substring(Math.max(0, value.length() - 7)).contains(".");
    }

    private void tellUnknown(Path sheet, boolean fails) {
        if (unknown.isEmpty()) return;
        StringBuilder text = new StringBuilder("Found the following unidentified headers in " + sheet + ":\n");
        for (String name : unknown) text.append("\t- ").append(name).append('\n');
        if (fails) throw new InvalidAgainstSchema(text.toString());
        LOG.warn(text.toString());
    }
}
