package org.runomics.nextflow.schema;

import nextflow.exception.AbortRunException;

/** Parameters or a samplesheet do not fit their schema. The message is for whoever started the run. */
public final class InvalidAgainstSchema extends AbortRunException {
    InvalidAgainstSchema(String message) {
        super(message);
    }
}
