//! `faults [WORD...]`: the cells whose names hold all of the words; all cells without any.
use muster_faults::{pair::Pair, tools::Tools};
use std::path::Path;
use std::time::Instant;

fn main() {
    let base = Path::new("/dev/shm/muster-faults-try");
    let _ = std::fs::remove_dir_all(base);
    std::fs::create_dir_all(base).unwrap();
    let own = std::env::current_exe().unwrap();
    let tools = Tools::lay_out(&base.join("tools"), own.parent().unwrap()).unwrap();
    let t = Instant::now();
    let mut pair = Pair::new(&base.join("c0"), &tools, None, false).unwrap();
    pair.switch_on(&tools).unwrap();
    println!("up {:?}", t.elapsed());
    pair.enrol().unwrap_or_else(|e| {
        println!("{e}\n{}", pair.logs());
        std::thread::sleep(std::time::Duration::from_secs(600))
    });
    println!("enrolled {:?}", t.elapsed());
    let said = pair.bootstrap().unwrap();
    println!("{} {}", said.status, said.text);
    println!("done {:?}", t.elapsed());
    if !said.status.success() {
        println!("{}", pair.logs());
        std::thread::sleep(std::time::Duration::from_secs(600));
    }
    let said = pair.bootstrap().unwrap();
    println!("{} {}", said.status, said.text);
    println!("again {:?}", t.elapsed());
    println!("{}", std::fs::read_to_string(pair.memory.join("runs.log")).unwrap());
}
