package org.runomics.nextflow;

import groovy.json.JsonSlurper;
import java.io.IOException;
import java.nio.file.AccessDeniedException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentHashMap;

/** What the run's buckets hold, as far as the service tells: listings, and the local paths of what was staged. */
final class S3Objects {
    private static final long LISTING_MS = 60_000;

    private static final Map<String, Listing> LISTINGS = new ConcurrentHashMap<>();
    private static final Map<String, Path> STAGED = new ConcurrentHashMap<>();

    /** Keys with their sizes in bytes; all that begin with what was asked for. */
    private record Listing(long untilMs, NavigableMap<String, Long> sizes) {}

    private S3Objects() {}

    /** Takes over what was staged before the engine began: a JSON object of URIs and paths. */
    static void know(Path file) throws IOException {
        if (new JsonSlurper().parse(Files.readAllBytes(file)) instanceof Map<?, ?> known) {
            known.forEach((uri, path) -> STAGED.put(String.valueOf(uri), Path.of(String.valueOf(path))));
        }
    }

    /** Where the object, or with a slash at its end everything below it, lies for tasks; null when it was not staged yet. */
    static Path staged(String uri) {
        return STAGED.get(uri);
    }

    /** As `staged`, and has it brought there first. */
    static Path stage(String uri) throws IOException {
        Path known = STAGED.get(uri);
        if (known != null) return known;
        Map<String, Object> answer = answer(uri, () -> Gateway.get().stage(uri));
        Path path = Path.of(String.valueOf(answer.get("path")));
        STAGED.put(uri, path);
        return path;
    }

    /** The keys of the bucket that begin with `prefix`, with their sizes. */
    static NavigableMap<String, Long> below(String bucket, String prefix) throws IOException {
        long now = System.currentTimeMillis();
        for (String known = prefix; ; known = known.substring(0, known.lastIndexOf('/') + 1)) {
            Listing listing = LISTINGS.get(bucket + "/" + known);
            if (listing != null && now < listing.untilMs) return beginning(listing.sizes, prefix);
            if (known.endsWith("/")) known = known.substring(0, known.length() - 1);
            if (known.isEmpty()) break;
        }
        String uri = "s3://" + bucket + "/" + prefix;
        Map<String, Object> answer = answer(uri, () -> Gateway.get().list(uri));
        NavigableMap<String, Long> sizes = new TreeMap<>();
        if (answer.get("objects") instanceof List<?> objects) {
            for (Object object : objects) {
                if (object instanceof List<?> pair && pair.size() == 2 && pair.get(1) instanceof Number size) {
                    sizes.put(String.valueOf(pair.get(0)), size.longValue());
                }
            }
        }
        LISTINGS.put(bucket + "/" + prefix, new Listing(now + LISTING_MS, sizes));
        return sizes;
    }

    private static NavigableMap<String, Long> beginning(NavigableMap<String, Long> sizes, String prefix) {
        return prefix.isEmpty() ? sizes : sizes.subMap(prefix, true, prefix + Character.MAX_VALUE, true);
    }

    private interface Question {
        Map<String, Object> ask() throws InterruptedException;
    }

    private static Map<String, Object> answer(String uri, Question question) throws IOException {
        Map<String, Object> answer;
        try {
            answer = question.ask();
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
            throw new java.io.InterruptedIOException(uri + " was not waited for: the run is being ended");
        }
        Object error = answer.get("error");
        if (error == null) return answer;
        String message = String.valueOf(answer.get("message"));
        Main.remember(uri, String.valueOf(error), message);
        switch (String.valueOf(error)) {
            case "INPUT_URI_NOT_FOUND" -> throw new NoSuchFileException(uri);
            case "IMPORT_FAILED" -> throw new AccessDeniedException(uri, null, message);
            default -> throw new IOException(message);
        }
    }
}
