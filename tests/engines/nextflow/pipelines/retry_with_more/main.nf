process GROW {
  errorStrategy { task.exitStatus in 130..145 ? 'retry' : 'terminate' }
  maxRetries 3
  memory { 1.GB * task.attempt }
  publishDir params.outdir
  input: val x
  output: path "grown-${x}.txt"
  script: "if [ ${task.attempt} -lt $x ]; then exit 137; fi; echo '${task.attempt} ${task.memory}' > grown-${x}.txt" }
workflow { GROW(Channel.of(1, 3)) }
