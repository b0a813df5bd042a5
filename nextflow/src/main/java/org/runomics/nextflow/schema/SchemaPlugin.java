package org.runomics.nextflow.schema;

import nextflow.plugin.BasePlugin;
import org.pf4j.PluginWrapper;

/** Stands in for nf-schema: pipelines find its functions under its name, without a download. */
public final class SchemaPlugin extends BasePlugin {
    /** Made by the plugin manager. */
    public SchemaPlugin(PluginWrapper wrapper) {
        super(wrapper);
    }
}
