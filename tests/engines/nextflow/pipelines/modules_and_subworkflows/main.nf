include { SAY as SAY_A; SAY as SAY_B } from './modules/local/say/main'
include { COUNT } from './modules/local/count'
include { TWICE; shout } from './subworkflows/twice.nf'
workflow {
  words = Channel.of('x', 'y')
  SAY_A(words, 'a')
  SAY_B(words, 'b')
  TWICE(SAY_A.out.text.mix(SAY_B.out.text))
  COUNT(TWICE.out.all.collect(sort: true))
  COUNT.out.view { "OUT: ${shout(it.text.trim())}" }
}
