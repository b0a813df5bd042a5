package org.runomics.nextflow;

import groovy.json.JsonSlurper;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import nextflow.Session;
import nextflow.cli.Launcher;
import nextflow.util.LoggerHelper;

/**
 * Runs one pipeline for the parent process: an order comes on standard input, a verdict goes to the pipe of reports, the exit code is Nextflow's.
 *
 * `--archive` only rehearses, for the archive of loaded classes. One run, never two.
 */
public final class Main {
    private static final Map<String, Map<String, Object>> REFUSED = new ConcurrentHashMap<>();
    private static volatile Session session;

    private Main() {}

    /** Arguments: the descriptor of the pipe of reports, and perhaps `--archive`. */
    public static void main(String[] arguments) throws Exception {
        LocalPlugins.install();
        int descriptor = Integer.parseInt(arguments[0]);
        if (arguments.length > 1 && arguments[1].equals("--archive")) {
            // The class data archive is written at a normal end alone.
            Rehearsal.run();
            Inspect.warm();
            System.exit(0);
        }
        Parent.open(descriptor);
        String line = Parent.read();
        if (line == null) Runtime.getRuntime().halt(0);
        Map<?, ?> order = (Map<?, ?>) new JsonSlurper().parseText(line);
        Map<String, Object> verdict = new LinkedHashMap<>();
        verdict.put("op", "end");
        int code;
        if ("inspect".equals(order.get("op"))) {
            LoggerHelper.bootstrapLogger();
            verdict.putAll(Inspect.run(order));
            code = 0;
        } else {
            code = run(order);
            verdict.putAll(RunomicsObserver.verdict(session));
            verdict.put("refused", REFUSED);
        }
        verdict.put("code", code);
        Parent.report(verdict);
        System.out.flush();
        System.err.flush();
        Gateway.closeCurrent(2_000);
        Runtime.getRuntime().halt(code);
    }

    private static int run(Map<?, ?> order) throws Exception {
        S3Objects.know(Path.of((String) order.get("staged")));
        Map<String, Object> hello = new LinkedHashMap<>();
        ((Map<?, ?>) order.get("hello")).forEach((name, value) -> hello.put((String) name, value));
        long patienceMs = (long) (((Number) order.get("patience_seconds")).doubleValue() * 1000);
        Gateway.open(Path.of((String) order.get("socket")), hello, patienceMs);
        for (Object note : (List<?>) order.get("notes")) Gateway.get().note(String.valueOf(note));
        return nextflow(((List<?>) order.get("arguments")).stream().map(String::valueOf).toArray(String[]::new));
    }

    static int nextflow(String... arguments) {
        LoggerHelper.bootstrapLogger();
        return new Launcher().command(arguments).run();
    }

    static void session(Session created) {
        session = created;
    }

    /** An object that could not be had: if the run fails over it, this is why. */
    static void remember(String uri, String code, String message) {
        REFUSED.put(uri, Map.of("code", code, "message", message));
    }
}
