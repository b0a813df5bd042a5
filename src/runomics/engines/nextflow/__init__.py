"""Nextflow: stock jars and a jar of ours, installed below the Python prefix; a JVM for each run, inside the run process's sandbox."""
