package org.runomics.nextflow;

import nextflow.executor.Executor;
import nextflow.executor.SupportedScriptTypes;
import nextflow.executor.local.NativeTaskHandler;
import nextflow.processor.TaskHandler;
import nextflow.processor.TaskMonitor;
import nextflow.processor.TaskRun;
import nextflow.script.ScriptType;
import nextflow.util.ServiceName;
import org.pf4j.ExtensionPoint;

/** Every task of every pipeline: scripts go through the gateway, `exec:` blocks run in this JVM. */
@ServiceName("runomics")
@SupportedScriptTypes({ScriptType.SCRIPTLET, ScriptType.GROOVY})
public class RunomicsExecutor extends Executor implements ExtensionPoint {
    @Override
    protected TaskMonitor createTaskMonitor() {
        return new RunomicsMonitor(getSession(), getName());
    }

    @Override
    public TaskHandler createTaskHandler(TaskRun task) {
        return task.getType() == ScriptType.GROOVY ? new Native(task, this) : new RunomicsTaskHandler(task, this);
    }

    /** The service starts containers, so the wrapper script must not. */
    @Override
    public boolean isContainerNative() {
        return true;
    }

    @Override
    public String containerConfigEngine() {
        return "docker";
    }

    /** The stock handler with a constructor that can be reached. */
    private static final class Native extends NativeTaskHandler {
        Native(TaskRun task, Executor executor) {
            super(task, executor);
        }
    }
}
