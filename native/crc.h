// CRC-32C (Castagnoli), as iSCSI, ext4 and Btrfs have it: RFC 3720, appendix B.4. Finds every damage of up to 32 bits
// in a row.
#pragma once
#include <cstdint>
#include <span>

namespace comface {

/** crc: of what came before, 0 at the start. */
uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t crc = 0);

/** The same without the processor's instruction, for those that lack it. */
uint32_t crc32cByTable(std::span<const uint8_t> bytes, uint32_t crc = 0);

}  // namespace comface
