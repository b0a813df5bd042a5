process P { output: stdout
  script: "exit 3" }
workflow { P() }
workflow.onComplete { println "OUT: complete ${workflow.success} ${workflow.exitStatus}" }
workflow.onError { println "OUT: error ${workflow.errorMessage.readLines()[0]}" }
