package org.runomics.nextflow;

import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.nio.channels.SeekableByteChannel;
import java.nio.file.AccessMode;
import java.nio.file.CopyOption;
import java.nio.file.DirectoryStream;
import java.nio.file.FileStore;
import java.nio.file.FileSystem;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.ReadOnlyFileSystemException;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributeView;
import java.nio.file.attribute.BasicFileAttributes;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.FileAttributeView;
import java.nio.file.attribute.FileTime;
import java.nio.file.spi.FileSystemProvider;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NavigableMap;
import java.util.Set;
import nextflow.file.FileSystemTransferAware;

/** `s3:` for the pipeline: looked at through listings, read through staging, never written. */
public final class S3Provider extends FileSystemProvider implements FileSystemTransferAware {
    private static volatile S3Provider only;

    /** For the service loader. */
    public S3Provider() {
        only = this;
    }

    static S3Provider only() {
        S3Provider known = only;
        return known == null ? new S3Provider() : known;
    }

    // ---- the local side ------------------------------------------------------------------------------------------

    /** Where tasks see it. */
    static Path stage(S3Path path) throws IOException {
        String uri = path.uri();
        Path known = S3Objects.staged(uri) != null ? S3Objects.staged(uri) : S3Objects.staged(uri + "/");
        if (known != null) return known;
        return S3Objects.stage(look(path).isDirectory() ? uri + "/" : uri);
    }

    private static Attributes look(S3Path path) throws IOException {
        if (path.saysDirectory() && path.key().isEmpty()) return new Attributes(path.uri(), true, 0);
        Path known = S3Objects.staged(path.uri());
        if (known != null) {
            BasicFileAttributes found = Files.readAttributes(known, BasicFileAttributes.class);
            return new Attributes(path.uri(), found.isDirectory(), found.size());
        }
        NavigableMap<String, Long> sizes = S3Objects.below(path.bucket(), path.key());
        Long size = sizes.get(path.key());
        if (size != null) return new Attributes(path.uri(), false, size);
        String below = sizes.ceilingKey(path.key() + "/");
        if (below != null && below.startsWith(path.key() + "/")) return new Attributes(path.uri(), true, 0);
        throw new NoSuchFileException(path.uri());
    }

    /** What Nextflow asks when it stages an input: a link is enough, the object lies where tasks can read it. */
    @Override
    public boolean canDownload(Path source, Path target) {
        return source instanceof S3Path && !(target instanceof S3Path);
    }

    @Override
    public void download(Path source, Path target, CopyOption... options) throws IOException {
        Path local = stage((S3Path) source);
        if (List.of(options).contains(StandardCopyOption.REPLACE_EXISTING)) Files.deleteIfExists(target);
        Files.createSymbolicLink(target, local);
    }

    @Override
    public boolean canUpload(Path source, Path target) {
        return false;
    }

    @Override
    public void upload(Path source, Path target, CopyOption... options) {
        throw readOnly(target);
    }

    // ---- reading -------------------------------------------------------------------------------------------------

    @Override
    public String getScheme() {
        return "s3";
    }

    @Override
    public FileSystem newFileSystem(URI uri, Map<String, ?> environment) {
        return S3FileSystem.ONLY;
    }

    @Override
    public FileSystem getFileSystem(URI uri) {
        return S3FileSystem.ONLY;
    }

    @Override
    public Path getPath(URI uri) {
        String path = uri.getPath() == null ? "" : uri.getPath();
        return S3Path.of("s3://" + uri.getAuthority() + path);
    }

    @Override
    public SeekableByteChannel newByteChannel(Path path, Set<? extends OpenOption> options, FileAttribute<?>... attributes) throws IOException {
        for (OpenOption option : options) if (option != StandardOpenOption.READ) throw readOnly(path);
        return Files.newByteChannel(stage((S3Path) path));
    }

    @Override
    public InputStream newInputStream(Path path, OpenOption... options) throws IOException {
        for (OpenOption option : options) if (option != StandardOpenOption.READ) throw readOnly(path);
        return Files.newInputStream(stage((S3Path) path));
    }

    @Override
    public DirectoryStream<Path> newDirectoryStream(Path directory, DirectoryStream.Filter<? super Path> filter) throws IOException {
        S3Path path = (S3Path) directory;
        String prefix = path.key().isEmpty() ? "" : path.key() + "/";
        NavigableMap<String, Long> sizes = S3Objects.below(path.bucket(), prefix);
        if (sizes.isEmpty() && !path.key().isEmpty()) {
            if (!look(path).isDirectory()) throw new NotDirectoryException(path.uri());
        }
        Map<String, Boolean> names = new LinkedHashMap<>();
        for (String key : sizes.keySet()) {
            String rest = key.substring(prefix.length());
            int slash = rest.indexOf('/');
            if (slash < 0 && !rest.isEmpty()) names.putIfAbsent(rest, false);
            else if (slash > 0) names.put(rest.substring(0, slash), true);
        }
        List<Path> found = new ArrayList<>();
        for (Map.Entry<String, Boolean> name : names.entrySet()) {
            Path child = path.resolve(new S3Path(null, List.of(name.getKey()), name.getValue()));
            if (filter == null || filter.accept(child)) found.add(child);
        }
        return new DirectoryStream<>() {
            @Override
            public Iterator<Path> iterator() {
                return found.iterator();
            }

            @Override
            public void close() {}
        };
    }

    @Override
    public void checkAccess(Path path, AccessMode... modes) throws IOException {
        for (AccessMode mode : modes) if (mode == AccessMode.WRITE) throw readOnly(path);
        look((S3Path) path);
    }

    @Override
    public <A extends BasicFileAttributes> A readAttributes(Path path, Class<A> type, LinkOption... options) throws IOException {
        if (type != BasicFileAttributes.class) throw new UnsupportedOperationException(type + " of an object");
        return type.cast(look((S3Path) path));
    }

    @Override
    public Map<String, Object> readAttributes(Path path, String names, LinkOption... options) throws IOException {
        Attributes found = look((S3Path) path);
        Map<String, Object> all = new LinkedHashMap<>();
        all.put("size", found.size());
        all.put("isDirectory", found.isDirectory());
        all.put("isRegularFile", found.isRegularFile());
        all.put("isSymbolicLink", false);
        all.put("isOther", false);
        all.put("fileKey", found.fileKey());
        for (String time : List.of("lastModifiedTime", "lastAccessTime", "creationTime")) all.put(time, found.lastModifiedTime());
        String wanted = names.startsWith("basic:") ? names.substring("basic:".length()) : names;
        if (!wanted.equals("*")) all.keySet().retainAll(Set.of(wanted.split(",")));
        return all;
    }

    @Override
    public <V extends FileAttributeView> V getFileAttributeView(Path path, Class<V> type, LinkOption... options) {
        if (type != BasicFileAttributeView.class) return null;
        return type.cast(new BasicFileAttributeView() {
            @Override
            public String name() {
                return "basic";
            }

            @Override
            public BasicFileAttributes readAttributes() throws IOException {
                return look((S3Path) path);
            }

            @Override
            public void setTimes(FileTime modified, FileTime accessed, FileTime created) {
                throw readOnly(path);
            }
        });
    }

    @Override
    public boolean isSameFile(Path one, Path other) {
        return one.equals(other);
    }

    @Override
    public boolean isHidden(Path path) {
        return path.getFileName() != null && path.getFileName().toString().startsWith(".");
    }

    @Override
    public FileStore getFileStore(Path path) {
        throw new UnsupportedOperationException("objects lie in no file store");
    }

    // ---- writing, refused ----------------------------------------------------------------------------------------

    private static ReadOnlyFileSystemException readOnly(Path path) {
        String where = path instanceof S3Path s3 && s3.isAbsolute() ? s3.uri() : String.valueOf(path);
        return new ReadOnlyFileSystemException() {
            @Override
            public String getMessage() {
                return where + " cannot be written: a run's results are what it publishes to /mnt/workflow/pubdir";
            }
        };
    }

    @Override
    public void createDirectory(Path path, FileAttribute<?>... attributes) {
        throw readOnly(path);
    }

    @Override
    public void delete(Path path) {
        throw readOnly(path);
    }

    @Override
    public void copy(Path source, Path target, CopyOption... options) {
        throw readOnly(target);
    }

    @Override
    public void move(Path source, Path target, CopyOption... options) {
        throw readOnly(source);
    }

    @Override
    public void setAttribute(Path path, String name, Object value, LinkOption... options) {
        throw readOnly(path);
    }

    /** An object never changes for a run: its content is what the first look found. */
    private record Attributes(String uri, boolean isDirectory, long size) implements BasicFileAttributes {
        private static final FileTime NEVER = FileTime.fromMillis(0);

        @Override
        public FileTime lastModifiedTime() {
            return NEVER;
        }

        @Override
        public FileTime lastAccessTime() {
            return NEVER;
        }

        @Override
        public FileTime creationTime() {
            return NEVER;
        }

        @Override
        public boolean isRegularFile() {
            return !isDirectory;
        }

        @Override
        public boolean isSymbolicLink() {
            return false;
        }

        @Override
        public boolean isOther() {
            return false;
        }

        @Override
        public Object fileKey() {
            return uri;
        }
    }
}
