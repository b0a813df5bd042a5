process WORK {
  errorStrategy 'finish'
  publishDir params.outdir, mode: 'copy'
  input: val x
  output: path "work-${x}.txt"
  script: "if [ $x = 2 ]; then exit 7; fi; sleep 0.5; echo $x > work-${x}.txt" }
process NEXT { input: path f
  output: stdout
  script: "cat $f" }
workflow { WORK(Channel.of(1, 2)); NEXT(WORK.out.collect()) }
