package org.runomics.nextflow;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import nextflow.exception.ProcessException;
import nextflow.exception.ProcessUnrecoverableException;
import nextflow.executor.BashWrapperBuilder;
import nextflow.executor.res.AcceleratorResource;
import nextflow.processor.TaskConfig;
import nextflow.processor.TaskHandler;
import nextflow.processor.TaskRun;
import nextflow.processor.TaskStatus;
import nextflow.trace.TraceRecord;

/** One attempt of one task: a `submit` line, and what is heard of it. */
final class RunomicsTaskHandler extends TaskHandler {
    /** What a signal's exit code is when the service, not the task, says how it ended. */
    private static final int KILLED = 137;

    private static final int TERMINATED = 143;

    private final RunomicsExecutor executor;
    private final String key;
    private final int attempt;
    private volatile boolean started;
    private volatile Map<String, Object> end;

    RunomicsTaskHandler(TaskRun task, RunomicsExecutor executor) {
        super(task);
        this.executor = executor;
        this.key = keyOf(task);
        this.attempt = attemptOf(task);
    }

    /** The task's directory below the engine's; a retry has another one. */
    static String keyOf(TaskRun task) {
        Path directory = task.getWorkDir();
        return directory.getParent().getFileName() + "/" + directory.getFileName();
    }

    static int attemptOf(TaskRun task) {
        Integer attempt = task.getConfig().getAttempt();
        return attempt == null ? 1 : attempt;
    }

    @Override
    public void prepareLauncher() {
        new BashWrapperBuilder(getTask().toTaskBean()).build();
    }

    @Override
    public void submit() {
        if (!Gateway.get().submit(key, attempt, line(), this::hear)) {
            end = Map.of("reason", "REFUSED", "message", "its description is over 4 MiB");
        }
        setStatus(TaskStatus.SUBMITTED);
    }

    private void hear(Map<String, Object> message) {
        switch (String.valueOf(message.get("op"))) {
            case "running" -> started = true;
            case "exited" -> end = message;
            default -> {
                return;
            }
        }
        executor.getTaskMonitor().signal();
    }

    /** The line of docs/dev/formats.md. What the pipeline does not ask for is left out: defaults are the service's. */
    private Map<String, Object> line() {
        TaskRun task = getTask();
        TaskConfig config = task.getConfig();
        String directory = task.getWorkDir().toString();
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("op", "submit");
        line.put("key", key);
        line.put("attempt", attempt);
        line.put("name", task.getName());
        line.put("argv", List.of("/bin/bash", directory + "/" + TaskRun.CMD_RUN));
        line.put("cwd", directory);
        line.put("stdin", null);
        line.put("stdout", directory + "/" + TaskRun.CMD_LOG);
        line.put("stderr", directory + "/" + TaskRun.CMD_LOG);
        line.put("env", Map.of());
        line.put("image", task.getContainer());
        line.put("cpus", config.get("cpus") == null ? 0 : config.getCpus());
        line.put("memory_bytes", config.getMemory() == null ? 0 : config.getMemory().toBytes());
        line.put("disk_bytes", config.getDisk() == null ? 0 : config.getDisk().toBytes());
        line.put("accelerators", accelerators(config.getAccelerator()));
        line.put("timeout_seconds", config.getTime() == null ? null : Math.max(1, config.getTime().toMillis() / 1000));
        line.put("network", false);
        return line;
    }

    private static Map<String, Object> accelerators(AcceleratorResource asked) {
        if (asked == null) return null;
        Integer count = asked.getRequest() == null ? asked.getLimit() : asked.getRequest();
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("type", asked.getType());
        found.put("count", count == null ? 1 : count);
        return found;
    }

    @Override
    public boolean checkIfRunning() {
        if (!isSubmitted() || (!started && end == null)) return false;
        setStatus(TaskStatus.RUNNING);
        return true;
    }

    @Override
    public boolean checkIfCompleted() {
        Map<String, Object> heard = end;
        if (!isRunning() || heard == null) return false;
        TaskRun task = getTask();
        Path directory = task.getWorkDir();
        try {
            Parent.takeOver(directory.toString());
        } catch (IOException unreachable) {
            // What cannot be read will say so when it is read.
        }
        String reason = String.valueOf(heard.get("reason"));
        task.setExitStatus(exitCode(reason, heard.get("exit_code")));
        Throwable error = error(reason, heard.get("message"));
        if (error != null) task.setError(error);
        task.setStdout(directory.resolve(TaskRun.CMD_OUTFILE));
        Path stderr = directory.resolve(TaskRun.CMD_ERRFILE);
        task.setStderr(Files.exists(stderr) ? stderr : directory.resolve(TaskRun.CMD_LOG));
        setStatus(TaskStatus.COMPLETED);
        return true;
    }

    /** The codes that pipelines look at to retry with more memory or time. */
    private static int exitCode(String reason, Object code) {
        if (reason.equals("OOM")) return KILLED;
        if (reason.equals("TIMEOUT")) return TERMINATED;
        return code instanceof Number number ? number.intValue() : Integer.MAX_VALUE;
    }

    /** Its class decides what Nextflow does: an unrecoverable one ends the run whatever the error strategy says. */
    private Throwable error(String reason, Object message) {
        String name = "Process `" + getTask().getName() + "` ";
        String told = message == null || message.toString().isBlank() ? "" : ": " + message;
        return switch (reason) {
            case "OK", "EXIT" -> null;
            case "OOM" -> new ProcessException(name + "ran out of memory" + told);
            case "TIMEOUT" -> new ProcessException(name + "exceeded running time limit" + told);
            case "IMAGE" -> new ProcessUnrecoverableException(name + "cannot be started in its container" + told);
            case "REFUSED" -> new ProcessUnrecoverableException(name + "was refused" + told);
            case "CANCELLED" -> new ProcessException(name + "was cancelled" + told);
            default -> new ProcessException(name + "was lost by the service" + told);
        };
    }

    @Override
    protected void killTask() {
        Gateway.get().cancel(key, attempt);
    }

    @Override
    public TraceRecord getTraceRecord() {
        TraceRecord record = super.getTraceRecord();
        record.put("native_id", key);
        return record;
    }
}
