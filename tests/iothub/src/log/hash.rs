//! Which partition a device's messages go to.

/// The partition of `device` among `partitions`. All messages of a device, its modules' too, go to
/// one partition, and always to the same: that is what gives them an order. IoT Hub's own hash is
/// not published; this one is FNV-1a (64 bits), which spreads ids that differ in one digit.
///
/// `partitions` must not be 0; 0 counts as 1.
#[must_use]
pub fn partition_of(device: &str, partitions: u16) -> u16 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in device.bytes() {
        hash ^= u64::from(byte);
        hash = hash.wrapping_mul(0x0000_0100_0000_01b3);
    }
    // The low bits of FNV are the weak ones.
    let folded = hash ^ (hash >> 32);
    u16::try_from(folded % u64::from(partitions.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden values: a change of the hash would move devices between partitions in every test
    /// that has written the partition down.
    #[test]
    fn devices_stay_where_they_are() {
        let placed: Vec<u16> = (0..8)
            .map(|n| partition_of(&format!("device-{n}"), 4))
            .collect();
        assert_eq!(placed, GOLDEN);
    }

    const GOLDEN: [u16; 8] = [3, 0, 1, 2, 3, 0, 1, 2];

    #[test]
    fn a_hundred_devices_leave_no_partition_empty() {
        for partitions in [2, 4, 8, 32] {
            let mut seen = vec![0; usize::from(partitions)];
            for n in 0..400 {
                seen[usize::from(partition_of(&format!("device-{n}"), partitions))] += 1;
            }
            assert!(
                seen.iter().all(|&count| count > 0),
                "{partitions}: {seen:?}"
            );
        }
    }
}
