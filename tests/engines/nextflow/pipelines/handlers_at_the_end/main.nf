process P { output: stdout
  script: "echo p" }
workflow {
  P()
  workflow.onComplete { println "OUT: complete ${workflow.success} ${workflow.exitStatus} ${workflow.stats.succeedCount}"; file("${params.outdir}/summary.txt").text = "ended ${workflow.success}\n" }
}
