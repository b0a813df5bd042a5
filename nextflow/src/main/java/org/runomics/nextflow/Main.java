package org.runomics.nextflow;

import groovy.json.JsonSlurper;
import java.lang.reflect.Field;
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
 * `--warm` has a tiny pipeline rehearsed first, so that everything a run needs is loaded when the order comes. One run, never two.
 */
public final class Main {
    private static final Map<String, Map<String, Object>> REFUSED = new ConcurrentHashMap<>();
    private static volatile Session session;

    private Main() {}

    /** Arguments: the descriptor of the pipe of reports, and perhaps `--warm`. */
    public static void main(String[] arguments) throws Exception {
        LocalPlugins.install();
        int descriptor = Integer.parseInt(arguments[0]);
        if (arguments.length > 1 && arguments[1].equals("--warm")) Rehearsal.run();
        if (arguments.length > 1 && arguments[1].equals("--archive")) {
            // The class data archive is written at a normal end alone.
            Rehearsal.run();
            Inspect.warm();
            System.exit(0);
        }
        Parent.open(descriptor);
        if (arguments.length > 1) {
            Parent.report(Map.of("op", "ready"));
            System.gc();
        }
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
        setEnvironment((Map<?, ?>) order.get("environment"));
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

    static void forget() {
        REFUSED.clear();
        session = null;
    }

    /** A JVM that was started before its run was known gets the run's variables into the map that System.getenv() reads. */
    @SuppressWarnings("unchecked")
    private static void setEnvironment(Map<?, ?> wanted) throws ReflectiveOperationException {
        Map<String, String> shown = System.getenv();
        Field inner = shown.getClass().getDeclaredField("m");
        inner.setAccessible(true);
        Map<Object, Object> values = (Map<Object, Object>) inner.get(shown);
        Class<?> environment = Class.forName("java.lang.ProcessEnvironment");
        Class<?> variable = Class.forName("java.lang.ProcessEnvironment$Variable");
        Class<?> text = Class.forName("java.lang.ProcessEnvironment$Value");
        Field field = environment.getDeclaredField("theEnvironment");
        field.setAccessible(true);
        Map<Object, Object> raw = (Map<Object, Object>) field.get(null);
        var name = variable.getDeclaredMethod("valueOf", String.class);
        var value = text.getDeclaredMethod("valueOf", String.class);
        name.setAccessible(true);
        value.setAccessible(true);
        for (Map.Entry<?, ?> entry : wanted.entrySet()) {
            // Both are views of one map where the JDK keeps one; putting twice is the same as once.
            if (values.getClass().getName().contains("StringEnvironment")) raw.put(name.invoke(null, entry.getKey()), value.invoke(null, entry.getValue()));
            else values.put(entry.getKey(), entry.getValue());
        }
    }
}
