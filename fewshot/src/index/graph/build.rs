//! Linking vectors, many at a time.
//!
//! A batch is linked in two steps. First every new slot chooses its links, in a graph that does not change meanwhile and
//! among the batch itself; then every slot that was chosen makes room for the links back. Slots do not wait for each other
//! in either step, so threads share them out, and the graph does not depend on how many threads there are.

use std::ops::{ControlFlow, Range};

use rand::Rng;

use super::{Codes, Graph, LINKS, LOWEST_LINKS, NONE, Near, Scratch};

/// Candidates among which a new slot chooses (efConstruction of the paper).
const CONSTRUCTION_WIDTH: usize = 100;
/// Slots linked together at most: enough to keep threads busy, few enough to compare with each other.
const BATCH: usize = 512;
/// A batch is at most this share of the graph it is linked to, so that what it searches is nearly complete.
const BATCH_SHARE: usize = 32;
/// Fewer items are not worth a thread.
const PER_THREAD: usize = 16;
/// More than 16^15 slots would be needed to use them up.
const HIGHEST: usize = 15;

/// The links a new slot has chosen, on each of its layers.
struct Plan {
    slot: u32,
    links: Vec<Vec<Near>>,
}

/// A link back.
struct Back {
    layer: usize,
    from: u32,
    to: Near,
}

impl Graph {
    /// Links rows of codes under their ids; `progress` is told how many slots are linked, and may end it half done.
    pub(in super::super) fn extend(
        &mut self,
        codes: Codes,
        ids: &[u64],
        threads: usize,
        progress: &dyn Fn(usize) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        debug_assert_eq!(codes.len(), ids.len());
        let mut linked = self.slots();
        self.codes.append(codes);
        self.ids.extend_from_slice(ids);
        self.lowest.resize(self.slots() * LOWEST_LINKS, NONE);
        while self.towers.len() < self.slots() {
            let draw = 1.0 - self.rng.random::<f64>();
            let level = ((-draw.ln() / (LINKS as f64).ln()) as usize).min(HIGHEST);
            self.towers.push(vec![NONE; level * LINKS].into());
        }
        while linked < self.slots() {
            progress(linked)?;
            let end = (linked + (linked / BATCH_SHARE).clamp(1, BATCH)).min(self.slots());
            self.link(linked as u32..end as u32, threads);
            linked = end;
        }
        ControlFlow::Continue(())
    }

    fn link(&mut self, batch: Range<u32>, threads: usize) {
        let slots: Vec<u32> = batch.clone().collect();
        let plans = self.share_out(&slots, threads, |&slot, scratch| self.plan(slot, &batch, scratch));
        let mut backs = Vec::new();
        for Plan { slot, links } in &plans {
            for (layer, links) in links.iter().enumerate() {
                let slots: Vec<u32> = links.iter().map(Near::slot).collect();
                self.set_links(*slot, layer, &slots);
                backs.extend(links.iter().map(|near| Back {
                    layer,
                    from: near.slot(),
                    to: Near::new(*slot, near.cosine),
                }));
            }
        }
        backs.sort_unstable_by(|a, b| (a.layer, a.from).cmp(&(b.layer, b.from)).then(a.to.order(&b.to)));
        let groups: Vec<&[Back]> = backs.chunk_by(|a, b| (a.layer, a.from) == (b.layer, b.from)).collect();
        let relinked =
            self.share_out(&groups, threads, |group, scratch| self.with_links_back(group, scratch));
        for (group, links) in groups.iter().zip(relinked) {
            self.set_links(group[0].from, group[0].layer, &links);
        }
        for slot in batch {
            if self.entry.is_none_or(|entry| self.level(slot) > self.level(entry)) {
                self.entry = Some(slot);
            }
        }
    }

    /// Chooses a new slot's links.
    fn plan(&self, slot: u32, batch: &Range<u32>, scratch: &mut Scratch) -> Plan {
        let code = self.codes.row(slot as usize);
        let level = self.level(slot);
        let others: Vec<u32> = batch.clone().filter(|&other| other != slot).collect();
        let mut cosines = Vec::new();
        self.codes.cosines(code, &others, &mut cosines);
        let others: Vec<Near> =
            others.iter().zip(&cosines).map(|(&slot, &cosine)| Near::new(slot, cosine)).collect();
        let mut links = vec![Vec::new(); level + 1];
        self.descend(code, level, scratch);
        for layer in (0..=level).rev() {
            if self.entry.is_some_and(|entry| layer <= self.level(entry)) {
                self.explore(code, CONSTRUCTION_WIDTH, layer, scratch);
            }
            let mut candidates = scratch.pool.clone();
            candidates.extend(others.iter().filter(|near| self.level(near.slot()) >= layer));
            candidates.sort_unstable_by(Near::order);
            candidates.truncate(CONSTRUCTION_WIDTH);
            // The entry may be lower than the slot: it has no links there.
            candidates.retain(|near| self.level(near.slot()) >= layer);
            links[layer] = self.choose(slot, &candidates, LINKS, &mut scratch.cosines);
        }
        Plan { slot, links }
    }

    /// A slot's links together with new links back, thinned out if they are too many.
    fn with_links_back(&self, group: &[Back], scratch: &mut Scratch) -> Vec<u32> {
        let Back { layer, from, .. } = group[0];
        let room = if layer == 0 { LOWEST_LINKS } else { LINKS };
        let mut links: Vec<u32> = self.links(from, layer).collect();
        let new: Vec<Near> =
            group.iter().map(|back| back.to).filter(|to| !links.contains(&to.slot())).collect();
        if links.len() + new.len() <= room {
            links.extend(new.iter().map(Near::slot));
            return links;
        }
        let cosines = &mut scratch.cosines;
        self.codes.cosines(self.codes.row(from as usize), &links, cosines);
        let mut candidates: Vec<Near> =
            links.iter().zip(cosines.iter()).map(|(&slot, &cosine)| Near::new(slot, cosine)).collect();
        candidates.extend(new);
        candidates.sort_unstable_by(Near::order);
        self.choose(from, &candidates, room, cosines).iter().map(Near::slot).collect()
    }

    /// Of candidates, nearest first, those that are no nearer to any chosen before than to the slot (algorithm 4). Equal
    /// vectors get half the room at most: the other half leads out of the heap they are.
    fn choose(&self, slot: u32, candidates: &[Near], room: usize, cosines: &mut Vec<f32>) -> Vec<Near> {
        let mut chosen: Vec<Near> = Vec::with_capacity(room);
        let mut slots: Vec<u32> = Vec::with_capacity(room);
        let mut equals = 0;
        for near in candidates {
            let is_equal = self.codes.are_equal(slot as usize, near.slot() as usize);
            if is_equal {
                equals += 1;
                if equals > room / 2 {
                    continue;
                }
            } else {
                self.codes.cosines(self.codes.row(near.slot() as usize), &slots, cosines);
                if cosines.iter().any(|&cosine| cosine > near.cosine) {
                    continue;
                }
            }
            chosen.push(*near);
            slots.push(near.slot());
            if chosen.len() == room {
                break;
            }
        }
        chosen
    }

    /// The results of `work` on all items, in their order, by several threads if there is enough to do.
    pub(super) fn share_out<T: Sync, R: Send>(
        &self,
        items: &[T],
        threads: usize,
        work: impl Fn(&T, &mut Scratch) -> R + Sync,
    ) -> Vec<R> {
        let threads = threads.min(items.len() / PER_THREAD).max(1);
        let all = |items: &[T]| -> Vec<R> {
            self.scratch.with(|scratch| items.iter().map(|item| work(item, scratch)).collect())
        };
        let (own, others) = items.split_at(items.len().div_ceil(threads));
        std::thread::scope(|scope| {
            let parts = others.chunks(own.len().max(1)).map(|part| scope.spawn(|| all(part)));
            let parts: Vec<_> = parts.collect();
            let mut results = all(own);
            for part in parts {
                match part.join() {
                    Ok(part) => results.extend(part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            results
        })
    }
}
