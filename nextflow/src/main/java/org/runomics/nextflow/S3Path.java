package org.runomics.nextflow;

import java.net.URI;
import java.nio.file.FileSystem;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.ProviderMismatchException;
import java.nio.file.WatchEvent;
import java.nio.file.WatchKey;
import java.nio.file.WatchService;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/**
 * An object or a prefix of a bucket, or a relative piece of such a path. Written `/bucket/key`, as Nextflow's own S3 paths are.
 *
 * Keys are taken as they are: only empty steps are dropped, so `a//b` is `a/b`.
 */
final class S3Path implements Path {
    /** Null for a relative path. */
    private final String bucket;

    private final List<String> steps;

    /** Whether a slash stood at the end: such a path is a directory without a look. */
    private final boolean directory;

    S3Path(String bucket, List<String> steps, boolean directory) {
        this.bucket = bucket;
        this.steps = List.copyOf(steps);
        this.directory = directory;
    }

    /** The path of `s3://bucket/key`. */
    static S3Path of(String uri) {
        String text = uri.substring("s3://".length());
        int slash = text.indexOf('/');
        String bucket = slash < 0 ? text : text.substring(0, slash);
        if (bucket.isEmpty()) throw new IllegalArgumentException("S3 URI has no bucket: " + uri);
        String key = slash < 0 ? "" : text.substring(slash + 1);
        return new S3Path(bucket, split(key), key.endsWith("/"));
    }

    private static List<String> split(String text) {
        List<String> found = new ArrayList<>();
        for (String step : text.split("/")) if (!step.isEmpty()) found.add(step);
        return found;
    }

    String bucket() {
        if (bucket == null) throw new IllegalStateException("relative: " + this);
        return bucket;
    }

    String key() {
        return String.join("/", steps);
    }

    boolean saysDirectory() {
        return directory || steps.isEmpty();
    }

    /** `s3://bucket/key`, without a slash at the end. */
    String uri() {
        return steps.isEmpty() ? "s3://" + bucket() : "s3://" + bucket() + "/" + key();
    }

    @Override
    public FileSystem getFileSystem() {
        return S3FileSystem.ONLY;
    }

    @Override
    public boolean isAbsolute() {
        return bucket != null;
    }

    @Override
    public Path getRoot() {
        return bucket == null ? null : new S3Path(bucket, List.of(), true);
    }

    @Override
    public Path getFileName() {
        return steps.isEmpty() ? null : new S3Path(null, steps.subList(steps.size() - 1, steps.size()), false);
    }

    @Override
    public Path getParent() {
        if (steps.isEmpty() || (bucket == null && steps.size() == 1)) return null;
        return new S3Path(bucket, steps.subList(0, steps.size() - 1), true);
    }

    @Override
    public int getNameCount() {
        return steps.size();
    }

    @Override
    public Path getName(int index) {
        return subpath(index, index + 1);
    }

    @Override
    public Path subpath(int from, int to) {
        if (from < 0 || to > steps.size() || from >= to) throw new IllegalArgumentException("no steps " + from + " to " + to + " in " + this);
        return new S3Path(null, steps.subList(from, to), false);
    }

    @Override
    public boolean startsWith(Path other) {
        return other instanceof S3Path that
                && Objects.equals(bucket, that.bucket)
                && that.steps.size() <= steps.size()
                && steps.subList(0, that.steps.size()).equals(that.steps);
    }

    @Override
    public boolean endsWith(Path other) {
        if (!(other instanceof S3Path that)) return false;
        if (that.bucket != null) return equals(that);
        int from = steps.size() - that.steps.size();
        return from >= 0 && steps.subList(from, steps.size()).equals(that.steps);
    }

    @Override
    public Path normalize() {
        List<String> found = new ArrayList<>();
        for (String step : steps) {
            if (step.equals(".")) continue;
            if (step.equals("..") && !found.isEmpty()) found.remove(found.size() - 1);
            else if (!step.equals("..")) found.add(step);
        }
        return new S3Path(bucket, found, directory);
    }

    @Override
    public Path resolve(Path other) {
        if (other.isAbsolute()) return other;
        List<String> found = new ArrayList<>(steps);
        found.addAll(split(other.toString()));
        return new S3Path(bucket, found, other instanceof S3Path that ? that.directory : other.toString().endsWith("/"));
    }

    @Override
    public Path resolve(String other) {
        return other.startsWith("s3://") ? of(other) : resolve(new S3Path(null, split(other), other.endsWith("/")));
    }

    @Override
    public Path relativize(Path other) {
        if (!(other instanceof S3Path that)) throw new ProviderMismatchException();
        if (!Objects.equals(bucket, that.bucket)) throw new IllegalArgumentException(that + " is not in the bucket of " + this);
        int common = 0;
        while (common < steps.size() && common < that.steps.size() && steps.get(common).equals(that.steps.get(common))) common++;
        List<String> found = new ArrayList<>();
        for (int i = common; i < steps.size(); i++) found.add("..");
        found.addAll(that.steps.subList(common, that.steps.size()));
        return new S3Path(null, found, false);
    }

    @Override
    public URI toUri() {
        try {
            return new URI("s3", bucket(), "/" + key(), null);
        } catch (java.net.URISyntaxException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    @Override
    public Path toAbsolutePath() {
        if (bucket == null) throw new UnsupportedOperationException("a relative S3 path has no absolute one: " + this);
        return this;
    }

    @Override
    public Path toRealPath(LinkOption... options) {
        return toAbsolutePath().normalize();
    }

    @Override
    public WatchKey register(WatchService watcher, WatchEvent.Kind<?>[] events, WatchEvent.Modifier... modifiers) {
        throw new UnsupportedOperationException("objects cannot be watched");
    }

    @Override
    public int compareTo(Path other) {
        return toString().compareTo(other.toString());
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof S3Path that && Objects.equals(bucket, that.bucket) && steps.equals(that.steps);
    }

    @Override
    public int hashCode() {
        return Objects.hash(bucket, steps);
    }

    @Override
    public String toString() {
        return bucket == null ? key() : steps.isEmpty() ? "/" + bucket : "/" + bucket + "/" + key();
    }
}
