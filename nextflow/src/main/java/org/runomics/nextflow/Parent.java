package org.runomics.nextflow;

import groovy.json.JsonOutput;
import java.io.BufferedReader;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/**
 * The process that started this JVM: orders and answers come on standard input, reports go to a pipe it opened, both lines of JSON.
 *
 * It has rights on the run's storage that this process has not: tasks write as another user.
 */
final class Parent {
    private static BufferedReader input;
    private static OutputStream reports;

    private Parent() {}

    /** `descriptor`: the number of the inherited pipe. Pipelines read an empty standard input. */
    static synchronized void open(int descriptor) throws IOException {
        input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        reports = new FileOutputStream("/proc/self/fd/" + descriptor);
        System.setIn(InputStream.nullInputStream());
    }

    /** The next line, null at the end: then nobody wants anything of this JVM any more. */
    static String read() throws IOException {
        return input.readLine();
    }

    static synchronized void report(Map<String, Object> report) throws IOException {
        reports.write((JsonOutput.toJson(report) + "\n").getBytes(StandardCharsets.UTF_8));
        reports.flush();
    }

    /** Has everything below a task's directory made this user's, who may then read, link and move it. Waits for it. */
    static synchronized void takeOver(String directory) throws IOException {
        if (reports == null) return;
        report(Map.of("op", "take_over", "directory", directory));
        input.readLine();
    }
}
