process MAYBE {
  errorStrategy 'ignore'
  input: val x
  output: path 'out.txt', optional: true; val x, emit: done
  when: x != 4
  script: "if [ $x = 2 ]; then exit 5; fi; if [ $x = 3 ]; then echo 3 > out.txt; fi" }
workflow { MAYBE(Channel.of(1, 2, 3, 4)); MAYBE.out.done.view { "OUT: done $it" }; MAYBE.out[0].view { "OUT: file ${it.text.trim()}" } }
