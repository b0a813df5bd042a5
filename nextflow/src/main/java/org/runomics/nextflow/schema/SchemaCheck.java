package org.runomics.nextflow.schema;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import dev.harrel.jsonschema.Annotation;
import dev.harrel.jsonschema.EvaluationContext;
import dev.harrel.jsonschema.Evaluator;
import dev.harrel.jsonschema.EvaluatorFactory;
import dev.harrel.jsonschema.FormatEvaluatorFactory;
import dev.harrel.jsonschema.JsonNode;
import dev.harrel.jsonschema.SchemaParsingContext;
import dev.harrel.jsonschema.Validator;
import dev.harrel.jsonschema.ValidatorFactory;
import dev.harrel.jsonschema.providers.GsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import nextflow.Nextflow;

/** A JSON value against a JSON schema with the keywords that Nextflow's schemas add; errors worded as nf-schema words them. */
final class SchemaCheck {
    /** What is checked decides how an error names its place. */
    enum Kind {
        parameter,
        field
    }

    private static final String DRAFT = "https://json-schema.org/draft/2020-12/schema";
    private static final Pattern LAST_LIST = Pattern.compile("\\[+([^\\[\\]]*)]+$");
    private static final Set<String> SEEN = Set.of("properties", "patternProperties", "additionalProperties");

    private final Path base;
    private final JsonObject schema;
    private final JsonElement input;
    private final Validator.Result result;

    /** `base`: what `schema` keywords are relative to. An older draft is read as the newest: what differs is not used in these schemas. */
    SchemaCheck(Path schemaFile, JsonElement input, Path base) throws IOException {
        this.base = base;
        this.input = input;
        this.schema = JsonParser.parseString(Files.readString(schemaFile)).getAsJsonObject();
        schema.addProperty("$schema", DRAFT);
        schema.remove("$id");
        this.result = new ValidatorFactory()
                .withJsonNodeFactory(new GsonNode.Factory())
                .withEvaluatorFactory(EvaluatorFactory.compose(this::keyword, new FormatEvaluatorFactory()))
                .validate((Object) schema, (Object) input);
    }

    /** Top-level names of the input that no part of the schema knows. */
    List<String> unknown() {
        Set<String> known = new HashSet<>();
        for (Annotation annotation : result.getAnnotations()) {
            if (SEEN.contains(annotation.getKeyword()) && annotation.getInstanceLocation().isEmpty() && annotation.getAnnotation() instanceof Collection<?> names) {
                for (Object name : names) known.add(String.valueOf(name));
            }
        }
        return input.getAsJsonObject().keySet().stream().filter(name -> !known.contains(name)).toList();
    }

    List<String> errors(Kind kind) {
        List<String> found = new ArrayList<>();
        for (dev.harrel.jsonschema.Error error : result.getErrors()) {
            String text = error.getError();
            // The groups' own errors stand beside it.
            if (kind == Kind.parameter && text.startsWith("Value does not match against the schemas at indexes")) continue;
            String told = told(kind, error, text);
            String own = text.startsWith("Validation of file failed:") ? "" : Values.at(error.getSchemaLocation().replaceFirst("^[^#]+", "") + "/errorMessage", schema);
            found.add(own.isEmpty() ? told : told + " (" + own + ")");
        }
        return found;
    }

    private String told(Kind kind, dev.harrel.jsonschema.Error error, String text) {
        if ("required".equals(error.getKeyword())) {
            Matcher names = LAST_LIST.matcher(text);
            text = "Missing required " + kind + "(s): " + (names.find() ? names.group(1) : text);
        }
        List<String> place = new ArrayList<>(List.of(error.getInstanceLocation().split("/")));
        place.removeIf(String::isEmpty);
        String value = Values.at(error.getInstanceLocation(), input);
        if (kind == Kind.parameter) return place.isEmpty() ? "* " + text : "* --" + String.join(".", place) + " (" + value + "): " + text;
        if (place.isEmpty()) return "-> " + text;
        String entry = "-> Entry " + (Integer.parseInt(place.get(0)) + 1) + ": ";
        if (place.size() == 1) return entry + text;
        return entry + "Error for " + kind + " '" + String.join("/", place.subList(1, place.size())) + "' (" + value + "): " + text;
    }

    // ---- keywords ------------------------------------------------------------------------------------------------

    private Optional<Evaluator> keyword(SchemaParsingContext context, String name, JsonNode wanted) {
        switch (name) {
            case "format" -> {
                String format = wanted.isString() ? wanted.asString() : "";
                if (!List.of("file-path", "directory-path", "path", "file-path-pattern").contains(format)) return Optional.empty();
                return text(value -> path(format, value));
            }
            case "exists" -> {
                return wanted.isBoolean() ? text(value -> exists(value, wanted.asBoolean())) : Optional.empty();
            }
            case "schema" -> {
                return wanted.isString() ? text(value -> content(value, wanted.asString())) : Optional.empty();
            }
            case "uniqueEntries" -> {
                return wanted.isArray() ? Optional.of(new Unique(wanted.asArray().stream().map(JsonNode::asString).toList())) : Optional.empty();
            }
            default -> {
                return Optional.empty();
            }
        }
    }

    private interface Question {
        /** What is wrong, null when nothing is. */
        String ask(String value) throws IOException;
    }

    private static Optional<Evaluator> text(Question question) {
        return Optional.of((context, node) -> {
            if (!node.isString()) return Evaluator.Result.success();
            try {
                String wrong = question.ask(node.asString());
                return wrong == null ? Evaluator.Result.success() : Evaluator.Result.failure(wrong);
            } catch (IOException | RuntimeException unreadable) {
                return Evaluator.Result.failure("could not check '" + node.asString() + "': " + unreadable.getMessage());
            }
        });
    }

    private static String path(String format, String value) {
        Object found = Nextflow.file(value);
        boolean isPattern = found instanceof List<?>;
        if (format.equals("file-path-pattern")) return null;
        if (isPattern) return format.equals("path") ? null : "'" + value + "' is not a " + (format.equals("file-path") ? "file" : "directory") + ", but a file path pattern";
        Path path = (Path) found;
        if (format.equals("file-path") && Files.isDirectory(path)) return "'" + value + "' is not a file, but a directory";
        if (format.equals("directory-path") && Files.exists(path) && !Files.isDirectory(path)) return "'" + value + "' is not a directory, but a file";
        return null;
    }

    private static String exists(String value, boolean wanted) {
        Object found = Nextflow.file(value);
        boolean exists = found instanceof List<?> several ? !several.isEmpty() : Files.exists((Path) found);
        if (exists == wanted) return null;
        return "the file or directory '" + value + "' " + (wanted ? "does not exist" : "should not exist");
    }

    private String content(String value, String schemaName) throws IOException {
        if (!(Nextflow.file(value) instanceof Path file) || !Files.isRegularFile(file)) return null;
        Path schemaFile = base.resolve(schemaName);
        Object table = Values.table(file, Samplesheet.hasNames(Values.object(schemaFile)));
        List<String> wrong = new SchemaCheck(schemaFile, Values.json(table), base).errors(table instanceof Map<?, ?> ? Kind.parameter : Kind.field);
        return wrong.isEmpty() ? null : "Validation of file failed:\n\t" + String.join("\n\t", wrong);
    }

    /** No two entries agree in all these members. */
    private record Unique(List<String> names) implements Evaluator {
        @Override
        public Result evaluate(EvaluationContext context, JsonNode node) {
            if (!node.isArray()) return Result.success();
            Set<Map<String, String>> seen = new HashSet<>();
            int count = 0;
            for (JsonNode entry : node.asArray()) {
                count++;
                if (!entry.isObject()) return Result.success();
                Map<String, String> values = new LinkedHashMap<>();
                entry.asObject().forEach((name, value) -> {
                    if (names.contains(name)) values.put(name, value.toPrintableString());
                });
                if (!values.isEmpty() && !seen.add(values)) {
                    List<String> told = values.entrySet().stream().map(pair -> pair.getKey() + ":" + pair.getValue()).toList();
                    return Result.failure("Entry " + count + ": Detected duplicate entries: " + told);
                }
            }
            return Result.success();
        }
    }
}
