//! What stands in /etc/cni/net.d, as CNI's library reads it: the kubelet's runtime takes the first file by name that it can
//! load, whoever wrote it (libcni, ConfFiles; dockershim, getDefaultCNINetwork).

use std::collections::BTreeSet;
use std::path::Path;

use ipnet::IpNet;
pub(crate) use muster_proto::kubernetes::network::CONFIGURATION_FOLDER as FOLDER;
use muster_proto::kubernetes::network::is_configuration;
use serde_json::Value;

use crate::host::HostError;
use crate::host::query::Observe;

/// A network's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Configuration {
    /// The name of its file.
    pub(crate) file: String,
    /// The ranges from which it gives pods their addresses, where it says so itself.
    pub(crate) ranges: Vec<IpNet>,
    /// The programs that it calls.
    pub(crate) programs: BTreeSet<String>,
}

/// Where runtimes look for them: upstream's folder, and Debian's.
const PROGRAM_FOLDERS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

/// flannel's program calls these in its turn (flannel-io/cni-plugin, delegate).
const OF_FLANNEL: [&str; 2] = ["bridge", "host-local"];

/// The programs that are there, of every folder.
pub(crate) async fn programs<H: Observe>(host: &H) -> Result<Vec<String>, HostError> {
    let mut there = Vec::new();
    for folder in PROGRAM_FOLDERS {
        there.extend(host.list_folder(Path::new(folder)).await?);
    }
    Ok(there)
}

/// The programs that the configuration calls and that are in none of the folders; none is told where there is no such folder,
/// since the runtime has one of its own then.
pub(crate) async fn missing_programs<H: Observe>(
    host: &H,
    configuration: &Configuration,
) -> Result<Vec<String>, HostError> {
    let there = programs(host).await?;
    let missing = configuration.programs.iter().filter(|name| !there.contains(name) && !there.is_empty());
    Ok(missing.cloned().collect())
}

/// The names of the files that the library reads, in its order.
pub(crate) async fn files<H: Observe>(host: &H) -> Result<Vec<String>, HostError> {
    let mut names = host.list_folder(Path::new(FOLDER)).await?;
    names.retain(|name| is_configuration(name));
    Ok(names)
}

/// The configuration that the kubelet's runtime takes; none where no file can be loaded (yet).
pub(crate) async fn taken<H: Observe>(host: &H) -> Result<Option<Configuration>, HostError> {
    for file in files(host).await? {
        // A link or a file that only the runtime may read: what is in it stays unknown, but it is taken.
        let Ok(text) = host.read_file(&Path::new(FOLDER).join(&file)).await else {
            return Ok(Some(Configuration { file, ranges: Vec::new(), programs: BTreeSet::new() }));
        };
        let loaded = text.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        if let Some(network) = loaded.filter(|network| loads(&file, network)) {
            let mut ranges = Vec::new();
            collect_ranges(&network, &mut ranges);
            let mut programs = BTreeSet::new();
            collect_programs(&network, &mut programs);
            return Ok(Some(Configuration { file, ranges, programs }));
        }
    }
    Ok(None)
}

/// What cannot be loaded is passed over: half-written, without a plugin, or a plugin without its type.
fn loads(file: &str, network: &Value) -> bool {
    let has_type = |plugin: &Value| plugin["type"].as_str().is_some_and(|kind| !kind.is_empty());
    if !file.ends_with(".conflist") {
        return has_type(network);
    }
    network["plugins"].as_array().is_some_and(|plugins| !plugins.is_empty() && plugins.iter().all(has_type))
}

/// The types of its plugins, and of what they hand their addresses over to.
fn collect_programs(network: &Value, found: &mut BTreeSet<String>) {
    let plugins = network["plugins"].as_array();
    let plugins: Vec<&Value> = plugins.map_or_else(|| vec![network], |plugins| plugins.iter().collect());
    let of = |plugin: &Value| [plugin["type"].clone(), plugin["ipam"]["type"].clone()];
    found.extend(plugins.into_iter().flat_map(of).filter_map(|kind| kind.as_str().map(str::to_owned)));
    if found.contains("flannel") {
        found.extend(OF_FLANNEL.map(str::to_owned));
    }
}

/// host-local's `subnet`, by itself or in `ranges`, wherever it stands.
fn collect_ranges(part: &Value, found: &mut Vec<IpNet>) {
    match part {
        Value::Object(fields) => {
            let range = fields.get("subnet").and_then(Value::as_str);
            found.extend(range.and_then(|range| range.parse::<IpNet>().ok()));
            fields.values().for_each(|part| collect_ranges(part, found));
        }
        Value::Array(parts) => parts.iter().for_each(|part| collect_ranges(part, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeCluster, FakeHost};

    #[tokio::test]
    async fn the_first_file_by_name_that_can_be_loaded_is_taken() {
        let host = FakeHost::debian("m1", FakeCluster::default());
        assert_eq!(taken(&host).await.unwrap(), None);
        let put = |name: &str, text: &str| host.put_file(format!("{FOLDER}/{name}"), text);
        put("00-readme.txt", "{\"type\": \"bridge\"}");
        put("01-half.conflist", "{\"plugins\": [");
        put("02-empty.conflist", "{\"plugins\": []}");
        put("03-no-type.conf", "{\"name\": \"x\"}");
        assert_eq!(taken(&host).await.unwrap(), None);
        put("10-b.conflist", "{\"plugins\": [{\"type\": \"flannel\"}]}");
        put(
            "10-a.conf",
            "{\"type\": \"bridge\", \"ipam\": {\"ranges\": [[{\"subnet\": \"10.22.0.0/16\"}]], \"routes\": [{\"dst\": \"0.0.0.0/0\"}]}}",
        );
        let found = taken(&host).await.unwrap().unwrap();
        let ranges = vec!["10.22.0.0/16".parse().unwrap()];
        let programs = ["bridge".to_owned()].into();
        assert_eq!(found, Configuration { file: "10-a.conf".into(), ranges, programs });
    }
}
