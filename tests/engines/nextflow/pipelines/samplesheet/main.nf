process ALIGN { tag "$meta.id"; publishDir "${params.outdir}/${meta.id}", mode: 'copy'
  input: tuple val(meta), path(reads, stageAs: 'in/*'); path reference
  output: tuple val(meta), path('*.out'), emit: aligned
  script: "cat $reference in/* > ${meta.id}.out" }
workflow {
  rows = Channel.fromPath(params.input).splitCsv(header: true, sep: ',')
    .map { row -> tuple([id: row.sample, single: !row.read2], [row.read1, row.read2].findAll().collect { it.contains('://') || it.startsWith('/') ? file(it, checkIfExists: true) : file("$projectDir/$it", checkIfExists: true) }) }
  ALIGN(rows, file(params.reference, checkIfExists: true))
  ALIGN.out.aligned.map { meta, f -> "OUT: ${meta.id} ${meta.single} ${f.size()}" }.view()
}
