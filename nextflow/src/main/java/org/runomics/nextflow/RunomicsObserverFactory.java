package org.runomics.nextflow;

import java.util.Collection;
import java.util.List;
import nextflow.Session;
import nextflow.trace.TraceObserverFactoryV2;
import nextflow.trace.TraceObserverV2;

/** Puts our observer among those of every session. */
public final class RunomicsObserverFactory implements TraceObserverFactoryV2 {
    @Override
    public Collection<TraceObserverV2> create(Session session) {
        return List.of(new RunomicsObserver());
    }
}
