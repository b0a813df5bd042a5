process P { output: stdout
  script: "echo $nosuch" }
workflow { P() }
