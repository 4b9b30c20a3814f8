//! What the cache takes back, and what it refuses. No code is run here; that it runs is shown by the tests of the sandbox.

use std::time::{Duration, SystemTime};

use super::*;
use crate::clock::Clock;
use crate::id;

const SECRET: [u8; 32] = [7; 32];

struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("aibos-compiled-{}", id::uuid(&Clock::System))))
    }

    fn cache(&self, secret: [u8; 32]) -> CompiledCache {
        CompiledCache::open(self.0.clone(), &secret, 1000).unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn digest(number: u8) -> String {
    format!("sha256:{number:064x}")
}

fn found(cache: &CompiledCache, digest: &str) -> Option<Vec<u8>> {
    cache.find(digest).map(|code| code.0)
}

#[test]
fn only_what_was_kept_is_found() {
    let place = Place::new();
    let cache = place.cache(SECRET);
    assert_eq!(found(&cache, &digest(1)), None);
    cache.keep(&digest(1), &Code(b"one".to_vec()));
    cache.keep(&digest(2), &Code(b"two".to_vec()));
    assert_eq!(found(&cache, &digest(1)).unwrap(), b"one");
    assert_eq!(found(&place.cache(SECRET), &digest(2)).unwrap(), b"two");
    assert_eq!(cache.counts(), Counts { hits: 1, misses: 1, rejected: 0 });
    // A text that is no digest leads nowhere.
    for wrong in ["", "sha256:", "sha256:../../etc/passwd", &digest(1).to_uppercase(), &digest(1)[7..]] {
        cache.keep(wrong, &Code(b"three".to_vec()));
        assert_eq!(found(&cache, wrong), None, "{wrong}");
    }
    assert_eq!(cache.files().unwrap().len(), 2);
}

#[test]
fn an_entry_that_was_changed_is_removed() {
    let place = Place::new();
    let cache = place.cache(SECRET);
    let path = cache.path(&digest(1), ENTRY).unwrap();
    cache.keep(&digest(1), &Code(b"code".to_vec()));
    let whole = fs::read(&path).unwrap();
    let mut wrong: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    wrong.push([&whole[..], b"\0"].concat());
    for place in 0..whole.len() {
        let mut changed = whole.clone();
        changed[place] ^= 1;
        wrong.push(changed);
    }
    let rejected = wrong.len() as u64;
    for entry in wrong {
        fs::write(&path, &entry).unwrap();
        assert_eq!(found(&cache, &digest(1)), None, "{entry:?}");
        assert!(!path.exists(), "it is made anew");
    }
    assert_eq!(cache.counts(), Counts { hits: 0, misses: 0, rejected });
    fs::write(&path, &whole).unwrap();
    assert!(cache.find(&digest(1)).is_some());
}

#[test]
fn an_entry_of_another_component_key_or_engine_is_removed() {
    let place = Place::new();
    let mut cache = place.cache(SECRET);
    let path = cache.path(&digest(1), ENTRY).unwrap();
    let keep = |cache: &CompiledCache| cache.keep(&digest(1), &Code(b"one".to_vec()));
    keep(&cache);
    fs::copy(&path, cache.path(&digest(2), ENTRY).unwrap()).unwrap();
    assert_eq!(found(&cache, &digest(2)), None);
    assert_eq!(found(&place.cache([8; 32]), &digest(1)), None);
    keep(&cache);
    cache.engine.push(0);
    assert_eq!(found(&cache, &digest(1)), None);
    assert!(!path.exists());
}

#[test]
fn the_oldest_make_room() {
    let place = Place::new();
    let cache = place.cache(SECRET);
    for number in 1..=4_u8 {
        cache.keep(&digest(number), &Code(vec![number; 200]));
        let written_at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(number));
        let file = File::open(cache.path(&digest(number), ENTRY).unwrap()).unwrap();
        file.set_modified(written_at).unwrap();
    }
    assert_eq!(cache.files().unwrap().len(), 4, "4 times 248 bytes fit into 1000");
    cache.keep(&digest(5), &Code(vec![5; 300]));
    let kept: Vec<bool> = (1..=5).map(|number| cache.find(&digest(number)).is_some()).collect();
    assert_eq!(kept, [false, false, true, true, true]);
    cache.keep(&digest(6), &Code(vec![6; 1000]));
    assert!(cache.find(&digest(6)).is_none(), "what is larger than all room is not kept");
    assert!(cache.find(&digest(5)).is_some());
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_it_and_nothing_unfinished_stays() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let cache = place.cache(SECRET);
    cache.keep(&digest(1), &Code(b"one".to_vec()));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.0), 0o700);
    assert_eq!(mode(&cache.path(&digest(1), ENTRY).unwrap()), 0o600);
    fs::write(place.0.join(format!("1-0.{UNFINISHED}")), b"half").unwrap();
    assert_eq!(place.cache(SECRET).files().unwrap().len(), 1);
}
