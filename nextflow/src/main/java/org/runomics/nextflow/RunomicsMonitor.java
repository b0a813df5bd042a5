package org.runomics.nextflow;

import java.util.HashMap;
import java.util.Map;
import nextflow.Session;
import nextflow.processor.TaskHandler;
import nextflow.processor.TaskPollingMonitor;
import nextflow.util.Duration;

/**
 * Nextflow's loop over submitted tasks, woken by events alone.
 *
 * The stock monitor loses a signal that comes while it is busy, and is told nothing when the run ends: both cost a poll interval.
 */
final class RunomicsMonitor extends TaskPollingMonitor {
    /** With tasks out only a signal, an abort or a cancel changes anything, and all three signal. */
    private static final long BUSY_MS = 5_000;

    /** With none out the run computes or ends, and its end does not signal. */
    private static final long IDLE_MS = 10;

    private final Object bell = new Object();
    private boolean rung;

    RunomicsMonitor(Session session, String name) {
        super(parameters(session, name));
    }

    private static Map<String, Object> parameters(Session session, String name) {
        Map<String, Object> found = new HashMap<>();
        found.put("session", session);
        found.put("name", name);
        found.put("capacity", 0); // unlimited: the service queues
        found.put("pollInterval", Duration.of(BUSY_MS));
        return found;
    }

    /** A task may have ended before it came into the queue. */
    @Override
    protected void submit(TaskHandler handler) {
        super.submit(handler);
        signal();
    }

    @Override
    public void signal() {
        synchronized (bell) {
            rung = true;
            bell.notifyAll();
        }
    }

    @Override
    protected void await(long unused) {
        long end = System.nanoTime() + (getRunningQueue().isEmpty() ? IDLE_MS : BUSY_MS) * 1_000_000;
        synchronized (bell) {
            while (!rung) {
                long left = (end - System.nanoTime()) / 1_000_000;
                if (left <= 0) return;
                try {
                    bell.wait(left);
                } catch (InterruptedException interrupted) {
                    Thread.currentThread().interrupt();
                    return;
                }
            }
            rung = false;
        }
    }
}
