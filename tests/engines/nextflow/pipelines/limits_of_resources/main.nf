process BIG { cpus 64; memory 500.GB; time 2.d; disk 1.GB; publishDir params.outdir
  output: path 'big.txt'
  script: "echo '${task.cpus} ${task.memory} ${task.time}' > big.txt" }
workflow { BIG() }
