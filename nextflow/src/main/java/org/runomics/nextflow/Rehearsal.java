package org.runomics.nextflow;

import groovy.json.JsonOutput;
import groovy.json.JsonSlurper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.Channels;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileVisitResult;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.SimpleFileVisitor;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.Map;

/** A tiny pipeline against a server inside this JVM: afterwards what a run needs is loaded, linked and compiled. */
final class Rehearsal {
    private static final String SCRIPT =
            """
            include { GREET } from './greet'
            params.name = 'nobody'
            process COUNT { tag "$x"; cpus 1; memory 1.GB; label 'small'; publishDir params.out, enabled: false
                input: tuple val(x), path(f)
                output: path 'o', optional: true
                script: "wc -c $f > o" }
            workflow INNER { take: x
                main: COUNT(x.map { [it, file("$projectDir/main.nf")] })
                emit: COUNT.out }
            workflow { INNER(Channel.of(1, 2)); GREET(params.name); INNER.out.collect().view { '' } }
            """;
    private static final String MODULE = "process GREET { input: val x\n output: stdout\n script: \"echo ${x}\" }\n";
    private static final String CONFIG =
            "params { out = 'x' }\nprofiles { test { params.z = 1 } }\nprocess { withName: 'COUNT' { ext.args = { '-x' } }\n withLabel: small { cpus = 1 } }\n";

    private Rehearsal() {}

    static void run() throws Exception {
        Path directory = Files.createTempDirectory("rehearsal");
        PrintStream out = System.out;
        PrintStream err = System.err;
        try (ServerSocketChannel server = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
            server.bind(UnixDomainSocketAddress.of(directory.resolve("s")));
            Thread answering = new Thread(() -> serve(server));
            answering.setDaemon(true);
            answering.start();
            Gateway.open(directory.resolve("s"), Map.of("op", "hello"), 60_000);
            Files.writeString(directory.resolve("main.nf"), SCRIPT);
            Files.writeString(directory.resolve("greet.nf"), MODULE);
            Files.writeString(directory.resolve("nextflow.config"), CONFIG);
            Files.writeString(directory.resolve("p.json"), "{\"name\":\"you\"}");
            System.setOut(new PrintStream(OutputStream.nullOutputStream()));
            System.setErr(new PrintStream(OutputStream.nullOutputStream()));
            int code = Main.nextflow(
                    "-log", directory.resolve("log").toString(), "run", directory.resolve("main.nf").toString(), "-ansi-log", "false",
                    "-w", directory.resolve("w").toString(), "-params-file", directory.resolve("p.json").toString());
            if (code != 0) throw new IllegalStateException("the rehearsal ended with " + code + ": " + Files.readString(directory.resolve("log")));
        } finally {
            System.setOut(out);
            System.setErr(err);
            Gateway.closeCurrent(100);
            remove(directory);
        }
    }

    private static void serve(ServerSocketChannel server) {
        try (SocketChannel client = server.accept()) {
            BufferedReader lines = new BufferedReader(new InputStreamReader(Channels.newInputStream(client), StandardCharsets.UTF_8));
            OutputStream answers = Channels.newOutputStream(client);
            for (String line; (line = lines.readLine()) != null; ) {
                Map<?, ?> said = (Map<?, ?>) new JsonSlurper().parseText(line);
                if ("event".equals(said.get("op"))) say(answers, Map.of("op", "ack", "seq", said.get("seq")));
                if (!"submit".equals(said.get("op"))) continue;
                Files.writeString(Path.of((String) said.get("cwd"), ".command.out"), "x");
                say(answers, Map.of("op", "running", "key", said.get("key"), "attempt", said.get("attempt")));
                say(answers, Map.of("op", "exited", "key", said.get("key"), "attempt", said.get("attempt"), "exit_code", 0, "reason", "OK"));
            }
        } catch (IOException closed) {
            // The rehearsal is over.
        }
    }

    private static void say(OutputStream answers, Map<String, Object> line) throws IOException {
        answers.write((JsonOutput.toJson(line) + "\n").getBytes(StandardCharsets.UTF_8));
    }

    private static void remove(Path directory) throws IOException {
        Files.walkFileTree(directory, new SimpleFileVisitor<>() {
            @Override
            public FileVisitResult visitFile(Path file, BasicFileAttributes attributes) throws IOException {
                Files.delete(file);
                return FileVisitResult.CONTINUE;
            }

            @Override
            public FileVisitResult postVisitDirectory(Path folder, IOException error) throws IOException {
                Files.delete(folder);
                return FileVisitResult.CONTINUE;
            }
        });
    }
}
