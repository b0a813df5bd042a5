#!/usr/bin/env nextflow
// From paired reads to variants: index, align, sort, call by region, join. Needs bowtie2, samtools and bcftools on the host
// (Debian: apt-get install bowtie2 samtools bcftools), or `params.image` with them.
include { paramsSummaryLog; samplesheetToList; validateParameters } from 'plugin/nf-schema'
include { CALL_VARIANTS } from './workflows/call_variants'

workflow {
    validateParameters()
    log.info paramsSummaryLog(workflow)
    samples = Channel.fromList(samplesheetToList(params.input, "${projectDir}/assets/schema_input.json"))
    CALL_VARIANTS(samples, file(params.reference, checkIfExists: true))
    CALL_VARIANTS.out.counts.view { meta, count -> "${meta.id}: ${count.trim()} variants" }

    workflow.onComplete {
        log.info(workflow.success ? 'All variants are called.' : "It failed: ${workflow.errorMessage}")
    }
}
