process ADD { input: val a; val b
  output: val sum
  exec: sum = a + b }
process WRITE { publishDir params.outdir, mode: 'copy'
  input: val n
  output: path 'native.txt'
  exec: task.workDir.resolve('native.txt').text = "native $n\n" }
workflow { ADD(1, Channel.of(2, 3)); ADD.out.toSortedList().view { "OUT: $it" }; WRITE(ADD.out.max()) }
