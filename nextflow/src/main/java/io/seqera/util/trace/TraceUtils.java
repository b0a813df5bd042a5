package io.seqera.util.trace;

import java.util.concurrent.ThreadLocalRandom;

/** What Nextflow calls of a library that no public repository has: an id for the headers of requests, which are never made here. */
public final class TraceUtils {
    private TraceUtils() {}

    /** A W3C traceparent. */
    public static String rndTrace() {
        ThreadLocalRandom random = ThreadLocalRandom.current();
        return String.format("00-%016x%016x-%016x-00", random.nextLong(), random.nextLong() | 1, random.nextLong() | 1);
    }
}
