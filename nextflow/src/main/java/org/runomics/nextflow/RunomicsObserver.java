package org.runomics.nextflow;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import nextflow.Session;
import nextflow.processor.ErrorStrategy;
import nextflow.processor.TaskFault;
import nextflow.processor.TaskProcessor;
import nextflow.processor.TaskRun;
import nextflow.trace.TraceObserverV2;
import nextflow.trace.event.FilePublishEvent;
import nextflow.trace.event.TaskEvent;
import nextflow.trace.event.WorkflowOutputEvent;

/** What a session tells: notes for the run's log, and at its end why it failed. Nextflow drops what an observer throws. */
final class RunomicsObserver implements TraceObserverV2 {
    private static final Path PUBLISHED = Path.of("/mnt/workflow/pubdir");
    private static final Path REPORTED = Path.of("/mnt/workflow/output");

    private final AtomicInteger cached = new AtomicInteger();
    private final AtomicBoolean toldOfOutside = new AtomicBoolean();
    private Session session;

    @Override
    public void onFlowCreate(Session created) {
        session = created;
        Main.session(created);
    }

    @Override
    public void onFlowBegin() {}

    @Override
    public void onProcessCreate(TaskProcessor process) {}

    @Override
    public void onProcessTerminate(TaskProcessor process) {}

    @Override
    public void onTaskPending(TaskEvent event) {}

    @Override
    public void onTaskSubmit(TaskEvent event) {}

    @Override
    public void onTaskStart(TaskEvent event) {}

    @Override
    public void onTaskCached(TaskEvent event) {
        cached.incrementAndGet();
    }

    @Override
    public void onTaskComplete(TaskEvent event) {
        TaskRun task = event.getHandler() == null ? null : event.getHandler().getTask();
        if (task == null || task.getErrorAction() == null) return;
        String exit = task.getExitStatus() == Integer.MAX_VALUE ? "without an exit code" : "with exit code " + task.getExitStatus();
        if (task.getErrorAction() == ErrorStrategy.RETRY) Gateway.get().note("Task " + task.getName() + " ended " + exit + "; it is retried.");
        if (task.getErrorAction() == ErrorStrategy.IGNORE) Gateway.get().note("Task " + task.getName() + " ended " + exit + "; its error is ignored.");
    }

    /** False: metrics are the service's, and Nextflow's own would need `ps` in every image. */
    @Override
    public boolean enableMetrics() {
        return false;
    }

    @Override
    public void onFilePublish(FilePublishEvent event) {
        Path target = event.getTarget();
        if (target == null || target.startsWith(PUBLISHED) || target.startsWith(REPORTED)) return;
        if (!toldOfOutside.compareAndSet(false, true)) return;
        Gateway.get().note("Published outside of " + PUBLISHED + ", so it is not exported: " + target + " (said once).");
    }

    @Override
    public void onWorkflowOutput(WorkflowOutputEvent event) {}

    @Override
    public void onFlowError(TaskEvent event) {}

    @Override
    public void onFlowComplete() {
        if (cached.get() > 0) Gateway.get().note(cached.get() + " tasks were finished before the engine was started again; their results are used.");
        Gateway.get().flush(2_000);
    }

    /** Why the session failed, as far as it knows: `error`, `report`, and the task's `key`, `attempt`, `name`, `exit`, `message`. */
    static Map<String, Object> verdict(Session session) {
        Map<String, Object> found = new LinkedHashMap<>();
        if (session == null) return found;
        Throwable error = session.getError();
        TaskFault fault = session.getFault();
        if (error == null && fault != null) error = fault.getError();
        if (error != null) {
            found.put("error", error.getMessage() == null ? error.getClass().getSimpleName() : error.getMessage());
            Throwable cause = error.getCause();
            if (cause != null && cause.getMessage() != null) found.put("cause", cause.getMessage());
        }
        if (fault == null) return found;
        if (fault.getReport() != null) found.put("report", fault.getReport());
        TaskRun task = fault.getTask();
        if (task == null || task.getWorkDir() == null) return found;
        Map<String, Object> failed = new LinkedHashMap<>();
        failed.put("key", RunomicsTaskHandler.keyOf(task));
        failed.put("attempt", RunomicsTaskHandler.attemptOf(task));
        failed.put("name", task.getName());
        failed.put("exit", task.getExitStatus() == Integer.MAX_VALUE ? null : task.getExitStatus());
        failed.put("directory", task.getWorkDir().toString());
        found.put("task", failed);
        return found;
    }
}
