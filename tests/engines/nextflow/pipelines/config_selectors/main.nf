process ONE { label 'small'; publishDir params.outdir
  input: val x
  output: path "one-${x}.txt"
  script: "echo '${task.cpus} ${task.memory} ${task.ext.args} ${task.ext.prefix}' \"\$FROM_CONFIG\" > one-${x}.txt"
  }
process TWO { label 'small'; label 'slow'; publishDir params.outdir
  output: path 'two.txt'
  script: "echo '${task.cpus} ${task.memory} ${task.time} ${task.ext.args} ${task.ext.prefix}' > two.txt" }
workflow INNER { main: TWO() }
workflow { ONE(Channel.of('a', 'b')); INNER() }
