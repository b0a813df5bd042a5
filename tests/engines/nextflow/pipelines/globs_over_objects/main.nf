process LENGTH { input: tuple val(id), path(pair)
  output: stdout
  script: "echo $id \$(cat $pair | wc -c)" }
workflow {
  Channel.fromPath("${params.base}/reads/*.fq").map { it.name }.toSortedList().view { "OUT: $it" }
  Channel.fromPath("${params.base}/**.txt").map { it.name }.toSortedList().view { "OUT: all $it" }
  Channel.fromPath("${params.base}/reads/?_1.f[q]").map { it.simpleName }.toSortedList().view { "OUT: one $it" }
  Channel.fromPath("${params.base}/reads/none*").ifEmpty('none').view { "OUT: $it" }
  LENGTH(Channel.fromFilePairs("${params.base}/reads/*_{1,2}.fq"))
  LENGTH.out.view { "OUT: ${it.trim()}" }
}
