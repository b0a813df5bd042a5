package org.runomics.nextflow;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.regex.Pattern;
import nextflow.file.FileSystemPathFactory;

/** How Nextflow comes to S3 paths, before it would look for the plugin it usually reads them with; and to what lies out of reach. */
public final class S3PathFactory extends FileSystemPathFactory {
    private static final Pattern REMOTE = Pattern.compile("(?i)(https?|ftp)://.*");

    @Override
    protected Path parseUri(String text) {
        if (text.startsWith("s3://")) return S3Path.of(text);
        return REMOTE.matcher(text).matches() && isForConfiguration() ? nothing(text) : null;
    }

    /** Whether a configuration includes it. Nothing is fetched here, and pipelines include what they can do without. */
    private static boolean isForConfiguration() {
        return StackWalker.getInstance().walk(frames -> frames.anyMatch(frame -> frame.getClassName().startsWith("nextflow.config.parser.")));
    }

    private static Path nothing(String uri) {
        Gateway.get().note("Configuration " + uri + " is not included: runs have no network.");
        try {
            return Files.createTempFile("nothing", ".config");
        } catch (IOException full) {
            throw new UncheckedIOException(full);
        }
    }

    @Override
    protected String toUriString(Path path) {
        return path instanceof S3Path s3 && s3.isAbsolute() ? s3.uri() : null;
    }

    @Override
    protected String getBashLib(Path target) {
        return null;
    }

    @Override
    protected String getUploadCmd(String source, Path target) {
        return null;
    }
}
