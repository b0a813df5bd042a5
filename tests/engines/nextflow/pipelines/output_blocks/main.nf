nextflow.preview.output = true
process MAKE { input: val id
  output: tuple val(id), path("${id}.txt")
  script: "echo $id > ${id}.txt" }
workflow {
  main: MAKE(Channel.of('a', 'b'))
  publish: made = MAKE.out.toSortedList { p, q -> p[0] <=> q[0] }.flatMap()
}
output {
  made {
    path { id, f -> "made/$id" }
    index { path 'index.csv'; header(['id', 'file']); sep ',' }
  }
}
