package org.runomics.nextflow;

import java.nio.file.FileStore;
import java.nio.file.FileSystem;
import java.nio.file.FileSystems;
import java.nio.file.Path;
import java.nio.file.PathMatcher;
import java.nio.file.WatchService;
import java.nio.file.attribute.UserPrincipalLookupService;
import java.nio.file.spi.FileSystemProvider;
import java.util.List;
import java.util.Set;

/** All buckets that the run's role may read, as one read-only file system. */
final class S3FileSystem extends FileSystem {
    static final S3FileSystem ONLY = new S3FileSystem();

    private S3FileSystem() {}

    @Override
    public FileSystemProvider provider() {
        return S3Provider.only();
    }

    @Override
    public void close() {
        throw new UnsupportedOperationException("it is always open");
    }

    @Override
    public boolean isOpen() {
        return true;
    }

    @Override
    public boolean isReadOnly() {
        return true;
    }

    @Override
    public String getSeparator() {
        return "/";
    }

    @Override
    public Iterable<Path> getRootDirectories() {
        return List.of();
    }

    @Override
    public Iterable<FileStore> getFileStores() {
        return List.of();
    }

    @Override
    public Set<String> supportedFileAttributeViews() {
        return Set.of("basic");
    }

    /** `/bucket/key`, or a relative path. */
    @Override
    public Path getPath(String first, String... more) {
        String text = more.length == 0 ? first : first + "/" + String.join("/", more);
        if (text.startsWith("s3://")) return S3Path.of(text);
        if (text.startsWith("/")) return S3Path.of("s3:/" + text);
        return new S3Path(null, List.of(), false).resolve(text);
    }

    /** By the rules of the default file system, on the text of the path. */
    @Override
    public PathMatcher getPathMatcher(String syntaxAndPattern) {
        PathMatcher local = FileSystems.getDefault().getPathMatcher(syntaxAndPattern);
        return path -> local.matches(Path.of(path.toString()));
    }

    @Override
    public UserPrincipalLookupService getUserPrincipalLookupService() {
        throw new UnsupportedOperationException("objects have no owners here");
    }

    @Override
    public WatchService newWatchService() {
        throw new UnsupportedOperationException("objects cannot be watched");
    }
}
