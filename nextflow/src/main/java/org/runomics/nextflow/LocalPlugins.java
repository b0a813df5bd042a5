package org.runomics.nextflow;

import java.io.IOException;
import java.lang.invoke.MethodHandles;
import java.lang.reflect.Field;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import nextflow.plugin.PluginSpec;
import nextflow.plugin.Plugins;
import nextflow.plugin.PluginsFacade;
import sun.misc.Unsafe;

/**
 * Gives a pipeline the plugins that lie on this machine, in the version it asks for or in another one, and leaves out the rest.
 *
 * Nothing is ever downloaded. A pipeline that really needs a missing plugin fails where it includes from it, and the run's log says why.
 */
final class LocalPlugins extends PluginsFacade {
    /** Before Nextflow looks at a configuration; the field is final and has no setter. */
    @SuppressWarnings("deprecation")
    static void install() throws ReflectiveOperationException {
        Field access = Unsafe.class.getDeclaredField("theUnsafe");
        access.setAccessible(true);
        Unsafe unsafe = (Unsafe) access.get(null);
        MethodHandles.lookup().ensureInitialized(Plugins.class);
        Field instance = Plugins.class.getDeclaredField("INSTANCE");
        unsafe.putObject(unsafe.staticFieldBase(instance), unsafe.staticFieldOffset(instance), new LocalPlugins());
    }

    @Override
    @SuppressWarnings("rawtypes")
    protected List<PluginSpec> pluginsRequirement(Map config) {
        List<PluginSpec> found = new ArrayList<>();
        List<String> names = names();
        for (PluginSpec wanted : super.pluginsRequirement(config)) {
            String exact = wanted.getId() + "-" + wanted.getVersion();
            String name = names.contains(exact) ? exact : another(names, wanted.getId());
            if (name == null) {
                Gateway.get().note("Plugin " + wanted + " is not on this server; it is left out.");
                continue;
            }
            String version = name.substring(wanted.getId().length() + 1);
            if (wanted.getVersion() != null && !name.equals(exact)) {
                Gateway.get().note("Plugin " + wanted + " is not on this server; version " + version + " is used.");
            }
            found.add(new PluginSpec(wanted.getId(), version));
        }
        return found;
    }

    private static String another(List<String> names, String id) {
        String found = null;
        for (String name : names) {
            if (name.startsWith(id + "-") && Character.isDigit(name.charAt(id.length() + 1))) found = name;
        }
        return found;
    }

    private List<String> names() {
        Path root = getPluginsDir();
        try (Stream<Path> entries = Files.list(root)) {
            return entries.map(path -> path.getFileName().toString()).sorted().toList();
        } catch (IOException none) {
            return List.of();
        }
    }
}
