params.from_script = 'script'
params.from_config = 'script'
params.from_profile = 'script'
params.from_run = 'script'
params.standard = 'none'
params.more = 'none'
workflow { params.findAll { it.key != 'outdir' }.sort().each { println "OUT: ${it.key} ${it.value} ${workflow.profile}" } }
