package composefile

import (
	"maps"
	"slices"
	"strings"
)

// carried are the keys of a service that are carried out. What becomes of each says containers/README.md.
const carried = ` image command entrypoint environment env_file working_dir user group_add hostname domainname
 init tty stdin_open ports expose networks network_mode links logging container_name extra_hosts dns dns_search dns_opt
 volumes volumes_from tmpfs configs secrets devices device_cgroup_rules
 cap_add cap_drop privileged security_opt read_only sysctls ulimits shm_size userns_mode
 pids_limit mem_limit mem_reservation memswap_limit cpus cpu_shares cpu_quota cpu_period cpuset blkio_config
 oom_score_adj ipc pid uts restart stop_signal stop_grace_period healthcheck
 depends_on labels label_file scale deploy platform pull_policy profiles extends
 attach develop `

// refused are the keys without which a container would be another one than its owner asked for, and what to do instead.
var refused = map[string]string{
	"cgroup_parent": "the containers of all apps lie in one group: remove the key, and limit the service by" +
		" mem_limit, cpus and pids_limit",
	"runtime":        "the device has one runtime: remove the key",
	"isolation":      "it is of Windows: remove the key",
	"gpus":           "name the device nodes in devices instead",
	"models":         "a device runs no models: remove the key, and give the service a container that does",
	"provider":       "a device runs no programs beside containers: give the service an image",
	"use_api_socket": "a device has no docker socket: remove the key",
	"storage_opt":    "a quota bounds the data of all containers together: remove the key",
	"pre_start":      "write a service that service_completed_successfully waits for in depends_on",
	"post_start":     "hooks are not run: let the container's command do it",
	"pre_stop":       "hooks are not run: let the container's command do it on its stop signal",
	"cpu_rt_runtime": "the kernel has no real-time groups: remove the key",
	"cpu_rt_period":  "the kernel has no real-time groups: remove the key",
}

// inner are the keys that are carried out of keys with a mapping below them, in a service.
var inner = map[string]string{
	"blkio_config":                  " weight ",
	"logging":                       " driver options ",
	"deploy":                        " resources replicas restart_policy mode ",
	"deploy.resources":              " limits reservations ",
	"deploy.resources.limits":       " cpus memory pids ",
	"deploy.resources.reservations": " memory ",
	"deploy.restart_policy":         " condition max_attempts ",
}

// top are the keys of a file that are carried out, or of no consequence.
const top = " name services networks volumes configs secrets include "

// check compares what was written with what is carried out.
func (l *load) check(model map[string]any) {
	for _, key := range slices.Sorted(maps.Keys(model)) {
		if !extension(key) && !strings.Contains(top, " "+key+" ") {
			l.warn(key, "not carried out")
		}
	}
	services, _ := model["services"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(services)) {
		keys, _ := services[name].(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			l.checkKey("services."+name, key, keys)
		}
	}
}

func extension(key string) bool { return strings.HasPrefix(key, "x-") || key == "#extensions" }

func (l *load) checkKey(path, key string, keys map[string]any) {
	value := keys[key]
	switch {
	case extension(key) || value == nil || value == false:
	case key == "build":
		l.checkBuild(path, keys)
	case refused[key] != "":
		l.fault(path+"."+key, "not carried out: %s", refused[key])
	case !listed(carried, key):
		l.warn(path+"."+key, "not carried out")
	default:
		l.checkInner(path, key, value)
	}
	if mapping, _ := value.(map[string]any); key == "logging" {
		l.checkLogging(path+".logging", mapping)
	}
}

// checkLogging warns of a driver that would bring the lines elsewhere. The log of the device bounds itself, so the
// limits of the drivers that keep lines on the host have nothing to limit.
func (l *load) checkLogging(path string, logging map[string]any) {
	driver, _ := logging["driver"].(string)
	if !slices.Contains([]string{"", "json-file", "local", "journald"}, driver) {
		l.warn(path+".driver", "the lines go to the log of the device, not to %s: see osctl logs", driver)
	}
}

// listed reports whether key is one of the words of list.
func listed(list, key string) bool { return slices.Contains(strings.Fields(list), key) }

func (l *load) checkInner(path, key string, value any) {
	known, ok := inner[key]
	mapping, isMapping := value.(map[string]any)
	if !ok || !isMapping {
		return
	}
	for _, k := range slices.Sorted(maps.Keys(mapping)) {
		if extension(k) {
			continue
		}
		if !strings.Contains(known, " "+k+" ") {
			l.warn(path+"."+key+"."+k, "not carried out")
			continue
		}
		l.checkInner(path, key+"."+k, mapping[k])
	}
}

func (l *load) checkBuild(path string, keys map[string]any) {
	name := path[strings.LastIndex(path, ".")+1:]
	if image, _ := keys["image"].(string); image != "" {
		l.warn(path+".build", "a device builds no images: it takes %s as it is; build it on another machine:"+
			" docker buildx build --platform linux/ARCH -t %s --push .", image, image)
		return
	}
	l.fault(path+".build", "a device builds no images: build it on another machine, as docker buildx build"+
		" --platform linux/ARCH -t REGISTRY/%s --push . and write image: REGISTRY/%s", name, name)
}
