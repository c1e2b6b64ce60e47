use super::*;
use crate::node::NodeExt;
use crate::pool::test_pool;
use crate::request::{Durability, IoReq, Token};

const SIZE: usize = 64 << 10;
const CLUSTER: usize = 4096;

/// An image in memory over a backing file full of ones.
struct Image {
    clusters: Mutex<Vec<Option<[u8; CLUSTER]>>>,
    /// Reads of the backing file take so long.
    delay: std::time::Duration,
}

impl Image {
    fn new(delay_ms: u64) -> Arc<Self> {
        Arc::new(Image {
            clusters: Mutex::new(vec![None; SIZE / CLUSTER]),
            delay: std::time::Duration::from_millis(delay_ms),
        })
    }

    fn allocated(&self) -> Vec<usize> {
        let clusters = self.clusters.lock().unwrap();
        let there = clusters.iter().enumerate().filter(|(_, c)| c.is_some());
        there.map(|(index, _)| index).collect()
    }
}

impl BlockNode for Image {
    fn info(&self) -> NodeInfo {
        NodeInfo {
            size: SIZE as u64,
            read_only: false,
            granule: 1,
        }
    }

    fn allocated(&self) -> Option<u64> {
        None
    }

    fn open_lane(&self, _: u32, _: &Waker) -> Result<Box<dyn IoLane>, BlockError> {
        Err(BlockError::Empty)
    }

    fn perform(&self, op: Op, buffers: &Buffers) -> io::Result<()> {
        let (offset, len) = op.range(buffers).unwrap_or((0, 0));
        let mut bytes = vec![0; len as usize];
        match op {
            Op::Read { .. } => {
                let clusters = self.clusters.lock().unwrap().clone();
                for (byte, at) in bytes.iter_mut().zip(offset as usize..) {
                    *byte = clusters[at / CLUSTER].map_or(1, |cluster| cluster[at % CLUSTER]);
                }
                std::thread::sleep(self.delay);
                buffers.write_at(0, &bytes);
            }
            Op::Write { .. } => {
                buffers.read_at(0, &mut bytes);
                let mut clusters = self.clusters.lock().unwrap();
                for (byte, at) in bytes.iter().zip(offset as usize..) {
                    clusters[at / CLUSTER].get_or_insert([1; CLUSTER])[at % CLUSTER] = *byte;
                }
            }
            Op::WriteZeroes { .. } => {
                let mut clusters = self.clusters.lock().unwrap();
                for at in (offset as usize)..(offset + len) as usize {
                    clusters[at / CLUSTER].get_or_insert([1; CLUSTER])[at % CLUSTER] = 0;
                }
            }
            Op::Flush | Op::Discard { .. } => {}
        }
        Ok(())
    }

    fn extent(&self, offset: u64, len: u64) -> io::Result<Extent> {
        let clusters = self.clusters.lock().unwrap();
        let at = offset as usize;
        let first = clusters[at / CLUSTER].is_some();
        let mut end = at;
        while end < SIZE && clusters[end / CLUSTER].is_some() == first {
            end = (end / CLUSTER + 1) * CLUSTER;
        }
        Ok(Extent {
            len: ((end - at) as u64).min(len),
            kind: match first {
                true => ExtentKind::Data,
                false => ExtentKind::Unallocated,
            },
        })
    }

    fn resize(&self, _: u64) -> Result<(), BlockError> {
        Err(BlockError::NoResize)
    }

    fn set_perms(&self, _: Perms) -> Result<(), BlockError> {
        Ok(())
    }

    fn set_activity(&self, _: crate::node::Activity) -> Result<(), BlockError> {
        Ok(())
    }
}

fn over(image: &Arc<Image>) -> CopyOnReadNode {
    let below = Edge::new(Some(image.clone()));
    CopyOnReadNode::open(below, Policy::default(), &test_pool(), Arc::default())
}

#[test]
fn what_is_read_is_there_afterwards() {
    let image = Image::new(0);
    let node = over(&image);
    let mut data = vec![0; 3 * CLUSTER];
    node.write_at(2 * CLUSTER as u64, &[7; CLUSTER]).unwrap();
    node.read_at(CLUSTER as u64, &mut data).unwrap();
    assert_eq!(data[..CLUSTER], [1; CLUSTER]);
    assert_eq!(data[CLUSTER..2 * CLUSTER], [7; CLUSTER]);
    assert_eq!(data[2 * CLUSTER..], [1; CLUSTER]);
    assert_eq!(image.allocated(), [1, 2, 3]);
    node.read_at(10 * CLUSTER as u64 + 512, &mut data[..512])
        .unwrap();
    assert_eq!(image.allocated(), [1, 2, 3, 10]);
}

#[test]
fn lanes_copy_too() {
    let image = Image::new(1);
    let node = over(&image);
    let waker = Waker::new().unwrap();
    let mut lane = node.open_lane(4, &waker).unwrap();
    let memory = Arc::new(HostBuffer::new(SIZE, 512));
    let request = IoReq::new(Op::Read { offset: 0 }, Buffers::owned(memory.clone()));
    assert!(lane.submit(request, Token(3)).is_none());
    let mut done = Vec::new();
    while lane.in_flight() > 0 {
        waker.wait();
        waker.clear();
        lane.reap(&mut done);
    }
    assert!(done[0].result.is_ok());
    assert_eq!(memory.to_vec(), [1; SIZE]);
    assert_eq!(image.allocated().len(), SIZE / CLUSTER);
}

#[test]
fn a_write_in_the_middle_of_a_copy_is_not_lost() {
    for round in 0..20u64 {
        let image = Image::new(2);
        let node = over(&image);
        std::thread::scope(|scope| {
            scope.spawn(|| node.read_at(0, &mut [0; SIZE]).unwrap());
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_micros(200 * round));
                node.write_at(CLUSTER as u64, &[9; 512]).unwrap();
            });
        });
        let mut data = [0; 1024];
        node.read_at(CLUSTER as u64, &mut data).unwrap();
        assert_eq!(data[..512], [9; 512], "round {round}");
        assert_eq!(data[512..], [1; 512]);
    }
}

#[test]
fn requests_beyond_the_end_are_refused() {
    let image = Image::new(0);
    let node = over(&image);
    let durability = Durability::Cached;
    let op = Op::Write {
        offset: SIZE as u64,
        durability,
    };
    let memory = Buffers::owned(Arc::new(HostBuffer::new(512, 512)));
    assert!(node.perform(op, &memory).is_err(), "beyond the end");
    node.read_at(0, &mut [0; 512]).unwrap();
}
