package org.runomics.nextflow;

import groovy.json.JsonOutput;
import groovy.json.JsonSlurper;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.function.Consumer;

/**
 * The engine's only way out: JSON lines over one Unix socket (docs/dev/formats.md).
 *
 * A lost connection means that the server is starting again: everything that has no answer yet is sent once more. Only the writer
 * thread touches the channel, because Nextflow interrupts its own threads when it aborts, and an interrupted write closes a channel.
 */
final class Gateway {
    static final int MOST_LINE_BYTES = 4 << 20;

    /** Exit code of an engine that nobody waits for any more. */
    static final int LOST = 75;

    private static final long FIRST_PAUSE_MS = 20;
    private static final long LONGEST_PAUSE_MS = 500;

    private static volatile Gateway current;

    private final Path socket;
    private final String hello;
    private final long patienceMs;
    private final Object lock = new Object();

    /** Guarded by lock: what is sent again after a reconnect, in the order it was first said. */
    private final Map<String, String> unanswered = new LinkedHashMap<>();

    private final Map<String, Consumer<Map<String, Object>>> listeners = new ConcurrentHashMap<>();
    private final Map<String, CompletableFuture<Map<String, Object>>> questions = new ConcurrentHashMap<>();
    private final LinkedBlockingQueue<Outgoing> outgoing = new LinkedBlockingQueue<>();
    private final Thread reader = new Thread(this::readForEver, "runomics-gateway");
    private final Thread writer = new Thread(this::writeForEver, "runomics-gateway-writer");
    private SocketChannel channel;
    private long sequence;
    private volatile boolean closed;

    private record Outgoing(SocketChannel channel, String line) {}

    private Gateway(Path socket, Map<String, Object> hello, long patienceMs) {
        this.socket = socket;
        this.hello = JsonOutput.toJson(hello);
        this.patienceMs = patienceMs;
        reader.setDaemon(true);
        writer.setDaemon(true);
    }

    /** Connects in the background; everything said meanwhile is kept. */
    static void open(Path socket, Map<String, Object> hello, long patienceMs) {
        Gateway gateway = new Gateway(socket, hello, patienceMs);
        current = gateway;
        gateway.reader.start();
        gateway.writer.start();
    }

    static Gateway get() {
        Gateway gateway = current;
        if (gateway == null) throw new IllegalStateException("the gateway was not opened");
        return gateway;
    }

    /** HotSpot waits up to 300 ms at its end for a thread that is blocked in a native read, so the reader is gone before. */
    static void closeCurrent(long flushMs) {
        Gateway gateway = current;
        if (gateway == null) return;
        gateway.flush(flushMs);
        gateway.closed = true;
        synchronized (gateway.lock) {
            gateway.disconnect();
        }
        gateway.reader.interrupt();
        gateway.writer.interrupt();
        try {
            gateway.reader.join(100);
            gateway.writer.join(100);
        } catch (InterruptedException interrupted) {
            Thread.currentThread().interrupt();
        }
        current = null;
    }

    // ---- what is said --------------------------------------------------------------------------------------------

    /** Hands over a task; `heard` gets every line about it, on the gateway's thread. False when its line is too long. */
    boolean submit(String key, int attempt, Map<String, Object> line, Consumer<Map<String, Object>> heard) {
        String text = JsonOutput.toJson(line);
        if (text.length() >= MOST_LINE_BYTES) return false;
        listeners.put(task(key, attempt), heard);
        say(task(key, attempt), text);
        return true;
    }

    void cancel(String key, int attempt) {
        say(null, JsonOutput.toJson(Map.of("op", "cancel", "key", key, "attempt", attempt)));
    }

    /** Has an object brought to the run's inputs; the answer has `path`, or `error` and `message`. */
    Map<String, Object> stage(String uri) throws InterruptedException {
        return ask("stage", uri, Map.of("op", "stage", "uri", uri));
    }

    /** What begins with `uri`; the answer has `objects`, or `error` and `message`. */
    Map<String, Object> list(String uri) throws InterruptedException {
        return ask("list", uri, Map.of("op", "list", "uri", uri));
    }

    /** A line for the run's log, kept until the server has it. */
    void note(String message) {
        synchronized (lock) {
            long number = ++sequence;
            Map<String, Object> line = new LinkedHashMap<>();
            line.put("op", "event");
            line.put("seq", number);
            line.put("kind", "note");
            line.put("message", message);
            say("event " + number, JsonOutput.toJson(line));
        }
    }

    /** Waits until every note has arrived. */
    void flush(long milliseconds) {
        long end = System.currentTimeMillis() + milliseconds;
        synchronized (lock) {
            while (unanswered.keySet().stream().anyMatch(key -> key.startsWith("event "))) {
                long left = end - System.currentTimeMillis();
                if (left <= 0) return;
                try {
                    lock.wait(left);
                } catch (InterruptedException interrupted) {
                    Thread.currentThread().interrupt();
                    return;
                }
            }
        }
    }

    private Map<String, Object> ask(String op, String uri, Map<String, Object> line) throws InterruptedException {
        String key = op + " " + uri;
        CompletableFuture<Map<String, Object>> mine = new CompletableFuture<>();
        CompletableFuture<Map<String, Object>> first = questions.putIfAbsent(key, mine);
        if (first == null) say(key, JsonOutput.toJson(line));
        try {
            return (first == null ? mine : first).get();
        } catch (java.util.concurrent.ExecutionException impossible) {
            throw new IllegalStateException(impossible);
        }
    }

    private static String task(String key, int attempt) {
        return "task " + attempt + " " + key;
    }

    private void say(String key, String line) {
        synchronized (lock) {
            if (key != null) unanswered.put(key, line);
            if (channel != null) outgoing.add(new Outgoing(channel, line));
        }
    }

    private void answered(String key) {
        synchronized (lock) {
            unanswered.remove(key);
            lock.notifyAll();
        }
    }

    // ---- threads -------------------------------------------------------------------------------------------------

    private void writeForEver() {
        while (!closed) {
            try {
                Outgoing next = outgoing.take();
                ByteBuffer bytes = ByteBuffer.wrap((next.line + "\n").getBytes(StandardCharsets.UTF_8));
                while (bytes.hasRemaining()) next.channel.write(bytes);
            } catch (IOException broken) {
                // The reader sees it too, connects again and says everything again.
            } catch (InterruptedException interrupted) {
                return;
            }
        }
    }

    private void readForEver() {
        long pause = FIRST_PAUSE_MS;
        long lostSince = 0;
        while (!closed) {
            SocketChannel found = connect();
            if (found == null) {
                long now = System.nanoTime();
                if (lostSince == 0) lostSince = now;
                if (isDeleted() || (now - lostSince) / 1_000_000 > patienceMs) Runtime.getRuntime().halt(LOST);
                try {
                    Thread.sleep(pause);
                } catch (InterruptedException interrupted) {
                    return;
                }
                pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
                continue;
            }
            pause = FIRST_PAUSE_MS;
            lostSince = 0;
            read(found);
            synchronized (lock) {
                if (channel == found) disconnect();
            }
        }
    }

    private SocketChannel connect() {
        SocketChannel found = null;
        try {
            found = SocketChannel.open(StandardProtocolFamily.UNIX);
            found.connect(UnixDomainSocketAddress.of(socket));
        } catch (IOException refused) {
            close(found);
            return null;
        }
        synchronized (lock) {
            channel = found;
            outgoing.add(new Outgoing(found, hello));
            for (String line : new ArrayList<>(unanswered.values())) outgoing.add(new Outgoing(found, line));
        }
        return found;
    }

    private boolean isDeleted() {
        try {
            return ((Number) Files.getAttribute(socket.getParent(), "unix:nlink")).intValue() == 0;
        } catch (NoSuchFileException gone) {
            return true;
        } catch (IOException | RuntimeException unknown) {
            return false;
        }
    }

    private void read(SocketChannel from) {
        try (BufferedReader lines = new BufferedReader(new InputStreamReader(Channels.newInputStream(from), StandardCharsets.UTF_8))) {
            JsonSlurper slurper = new JsonSlurper();
            for (String line; (line = lines.readLine()) != null; ) {
                if (slurper.parseText(line) instanceof Map<?, ?> message) hear(message);
            }
        } catch (IOException broken) {
            // As the end of the stream.
        }
    }

    private void hear(Map<?, ?> message) {
        Map<String, Object> line = new LinkedHashMap<>();
        message.forEach((name, value) -> line.put(String.valueOf(name), value));
        switch (String.valueOf(line.get("op"))) {
            case "ack" -> answered("event " + line.get("seq"));
            case "staged" -> answer("stage " + line.get("uri"), line);
            case "listed" -> answer("list " + line.get("uri"), line);
            default -> {
                String key = task(String.valueOf(line.get("key")), line.get("attempt") instanceof Number number ? number.intValue() : 0);
                Consumer<Map<String, Object>> listener = listeners.get(key);
                if ("exited".equals(line.get("op"))) {
                    answered(key);
                    listeners.remove(key);
                }
                if (listener != null) listener.accept(line);
            }
        }
    }

    private void answer(String key, Map<String, Object> line) {
        answered(key);
        CompletableFuture<Map<String, Object>> question = questions.remove(key);
        if (question != null) question.complete(line);
    }

    /** The lock is held. */
    private void disconnect() {
        close(channel);
        channel = null;
    }

    private static void close(SocketChannel channel) {
        if (channel == null) return;
        try {
            channel.close();
        } catch (IOException ignored) {
            // Nothing more can be done with it.
        }
    }

}
