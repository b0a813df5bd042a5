package org.runomics.nextflow.schema;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonNull;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import groovy.json.JsonSlurper;
import java.io.BufferedReader;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;
import nextflow.extension.FilesEx;
import nextflow.splitter.CsvSplitter;
import nextflow.util.Duration;
import nextflow.util.MemoryUnit;
import org.yaml.snakeyaml.LoaderOptions;
import org.yaml.snakeyaml.Yaml;

/** Parameters and tables as JSON, and back to what Groovy works with. */
final class Values {
    private static final Pattern INTEGER = Pattern.compile("[-+]?\\d{1,9}");
    private static final Pattern LONG = Pattern.compile("[-+]?\\d{10,18}");
    private static final Pattern REAL = Pattern.compile("[-+]?(\\d+\\.\\d*|\\.?\\d+)([eE][-+]?\\d+)?");
    private static final int MOST_YAML = 50 << 20;

    private Values() {}

    /** Null for what is null: such a member counts as absent. */
    static JsonElement json(Object value) {
        if (value == null) return JsonNull.INSTANCE;
        if (value instanceof Map<?, ?> map) {
            JsonObject object = new JsonObject();
            map.forEach((name, item) -> {
                if (item != null) object.add(String.valueOf(name), json(item));
            });
            return object;
        }
        if (value instanceof Iterable<?> items && !(value instanceof Path)) {
            JsonArray array = new JsonArray();
            items.forEach(item -> array.add(json(item)));
            return array;
        }
        if (value instanceof Number number) return new JsonPrimitive(number);
        if (value instanceof Boolean bool) return new JsonPrimitive(bool);
        if (value instanceof Duration duration) return new JsonPrimitive(duration.toMillis());
        if (value instanceof MemoryUnit memory) return new JsonPrimitive(memory.toBytes());
        if (value instanceof Path path) return new JsonPrimitive(FilesEx.toUriString(path));
        return new JsonPrimitive(value.toString());
    }

    /** The value at a JSON pointer as a person would write it; empty when there is none. */
    static String at(String pointer, JsonElement root) {
        JsonElement found = root;
        for (String step : pointer.split("/")) {
            if (step.isEmpty() || step.equals("#")) continue;
            String name = step.replace("~1", "/").replace("~0", "~");
            if (found instanceof JsonObject object) found = object.get(name);
            else if (found instanceof JsonArray array && INTEGER.matcher(name).matches() && Integer.parseInt(name) < array.size()) found = array.get(Integer.parseInt(name));
            else return "";
            if (found == null) return "";
        }
        return found instanceof JsonPrimitive primitive ? primitive.getAsString() : String.valueOf(found);
    }

    @SuppressWarnings("unchecked")
    static Map<String, Object> object(Path file) throws IOException {
        Object found = new JsonSlurper().parseText(Files.readString(file));
        if (found instanceof Map<?, ?> map) return (Map<String, Object>) map;
        throw new InvalidAgainstSchema(file + " is not a JSON object\n");
    }

    /** A samplesheet: a list of rows (CSV, TSV), or whatever JSON or YAML holds. `named`: rows are maps by the names of the first line. */
    static Object table(Path file, boolean named) throws IOException {
        String type = type(file);
        if (type.equals("json")) return new JsonSlurper().parseText(Files.readString(file));
        if (type.equals("yaml")) {
            LoaderOptions options = new LoaderOptions();
            options.setCodePointLimit(MOST_YAML);
            return new Yaml(options).load(Files.readString(file));
        }
        Map<String, Object> options = new LinkedHashMap<>();
        options.put("header", named);
        options.put("strip", true);
        options.put("sep", type.equals("tsv") ? "\t" : ",");
        options.put("quote", "\"");
        CsvSplitter splitter = new CsvSplitter();
        splitter.options(options);
        splitter.target(file);
        List<Object> rows = new ArrayList<>();
        for (Object row : (List<?>) splitter.list()) rows.add(inferred(!named && row instanceof List<?> list && list.size() == 1 ? list.get(0) : row));
        return rows;
    }

    private static String type(Path file) throws IOException {
        String name = file.getFileName().toString();
        String extension = name.substring(name.lastIndexOf('.') + 1);
        if (extension.equals("yml")) return "yaml";
        if (List.of("csv", "tsv", "yaml", "json").contains(extension)) return extension;
        try (BufferedReader lines = Files.newBufferedReader(file)) {
            String header = lines.readLine();
            return header != null && header.indexOf('\t') >= 0 && header.indexOf(',') < 0 ? "tsv" : "csv";
        }
    }

    /** Texts of a table become what they look like; an empty one is absent. */
    private static Object inferred(Object value) {
        if (value instanceof Map<?, ?> row) {
            Map<String, Object> found = new LinkedHashMap<>();
            row.forEach((name, cell) -> {
                // A comma at the end of every line is no column.
                if (name != null && !String.valueOf(name).isEmpty()) found.put(String.valueOf(name), inferred(cell));
            });
            return found;
        }
        if (value instanceof List<?> list) return list.stream().map(Values::inferred).collect(ArrayList::new, ArrayList::add, ArrayList::addAll);
        if (!(value instanceof CharSequence)) return value;
        String text = value.toString();
        if (text.isEmpty()) return null;
        if (text.equalsIgnoreCase("true") || text.equalsIgnoreCase("false")) return Boolean.valueOf(text);
        if (INTEGER.matcher(text).matches()) return Integer.valueOf(text);
        if (LONG.matcher(text).matches()) return Long.valueOf(text);
        if (REAL.matcher(text).matches()) return Double.valueOf(text);
        return text;
    }
}
