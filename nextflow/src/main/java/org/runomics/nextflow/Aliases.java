package org.runomics.nextflow;

import nextflow.util.ServiceName;

/**
 * The executor under each name that a pipeline may ask for.
 *
 * A process or a selector may name its executor, which no configuration from outside can override; but an extension may replace a built-in one.
 */
public final class Aliases {
    private Aliases() {}

    @ServiceName("local")
    public static final class Local extends RunomicsExecutor {}

    @ServiceName("flux")
    public static final class Flux extends RunomicsExecutor {}

    @ServiceName("sge")
    public static final class Sge extends RunomicsExecutor {}

    @ServiceName("oge")
    public static final class Oge extends RunomicsExecutor {}

    @ServiceName("uge")
    public static final class Uge extends RunomicsExecutor {}

    @ServiceName("lsf")
    public static final class Lsf extends RunomicsExecutor {}

    @ServiceName("pbs")
    public static final class Pbs extends RunomicsExecutor {}

    @ServiceName("pbspro")
    public static final class Pbspro extends RunomicsExecutor {}

    @ServiceName("slurm")
    public static final class Slurm extends RunomicsExecutor {}

    @ServiceName("bridge")
    public static final class Bridge extends RunomicsExecutor {}

    @ServiceName("crg")
    public static final class Crg extends RunomicsExecutor {}

    @ServiceName("bsc")
    public static final class Bsc extends RunomicsExecutor {}

    @ServiceName("condor")
    public static final class Condor extends RunomicsExecutor {}

    @ServiceName("nqsii")
    public static final class Nqsii extends RunomicsExecutor {}

    @ServiceName("moab")
    public static final class Moab extends RunomicsExecutor {}

    @ServiceName("oar")
    public static final class Oar extends RunomicsExecutor {}

    @ServiceName("hq")
    public static final class Hq extends RunomicsExecutor {}

    @ServiceName("awsbatch")
    public static final class Awsbatch extends RunomicsExecutor {}

    @ServiceName("k8s")
    public static final class K8s extends RunomicsExecutor {}

    @ServiceName("google-batch")
    public static final class GoogleBatch extends RunomicsExecutor {}

    @ServiceName("google-lifesciences")
    public static final class GoogleLifesciences extends RunomicsExecutor {}

    @ServiceName("azurebatch")
    public static final class Azurebatch extends RunomicsExecutor {}

    @ServiceName("tes")
    public static final class Tes extends RunomicsExecutor {}

    @ServiceName("float")
    public static final class Float extends RunomicsExecutor {}
}
