// SPDX-License-Identifier: Apache-2.0
// Random schedules of allocations, frees, failures, handles, mappings and contexts against naive
// oracles: after each step the charge is the sum of what lives. A failure prints its seed.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "ledger/allocation_table.h"
#include "ledger/physical_table.h"
#include "ledger/pool_account.h"
#include "sizes.h"

namespace vgpu::limiter {
namespace {

// A driver that places small allocations in pages of 2 MiB, first fit, and gives empty pages back.
class NaiveDriver {
 public:
  std::uint64_t allocate(std::uint64_t bytes) {
    if (bytes > kMiB) {
      const std::uint64_t address = next_page(driver_model::linear_bytes(bytes) / kPage);
      live_[address] = bytes;
      return address;
    }
    const std::uint64_t wanted = driver_model::round_up(bytes, 512);
    for (auto& [page, places] : pages_) {
      std::uint64_t at = page;
      for (const auto& [start, size] : places) {
        if (start - at >= wanted) break;
        at = start + size;
      }
      if (at + wanted <= page + kPage) {
        places[at] = wanted;
        live_[at] = bytes;
        return at;
      }
    }
    const std::uint64_t page = next_page(1);
    pages_[page][page] = wanted;
    live_[page] = bytes;
    return page;
  }
  void free(std::uint64_t address) {
    const std::uint64_t bytes = live_[address];
    live_.erase(address);
    if (bytes > kMiB) return;
    const std::uint64_t page = address / kPage * kPage;
    pages_[page].erase(address);
    if (pages_[page].empty()) pages_.erase(page);
  }
  std::uint64_t held_bytes() const {
    std::uint64_t sum = pages_.size() * kPage;
    for (const auto& [address, bytes] : live_)
      sum += bytes > kMiB ? driver_model::linear_bytes(bytes) : 0;
    return sum;
  }
  const std::map<std::uint64_t, std::uint64_t>& live() const { return live_; }

 private:
  std::uint64_t next_page(std::uint64_t count) {
    const std::uint64_t page = end_;
    end_ += count * kPage;
    return page;
  }
  std::uint64_t end_ = 0x7f0000000000;
  std::map<std::uint64_t, std::map<std::uint64_t, std::uint64_t>> pages_;
  std::map<std::uint64_t, std::uint64_t> live_;
};

TEST(AllocationModel, ChargeIsTheSumOfWhatTheDriverHolds) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random{seed};
    NaiveDriver driver;
    AllocationTable table;
    std::uint64_t charged = 0;
    for (int step = 0; step < 3000; ++step) {
      if (random() % 5 < 3 || driver.live().empty()) {
        const std::uint64_t bytes =
            random() % 3 == 0 ? 1 + random() % (8 * kMiB) : 1 + random() % kMiB;
        const std::uint64_t address = driver.allocate(bytes);
        charged += driver_model::linear_bytes(bytes);  // reserved ahead
        if (driver_model::shares_a_block(bytes)) {
          if (!table.add_in_block(address, bytes, 0, 1)) charged -= kPage;
        } else {
          table.add(address, {.bytes = driver_model::linear_bytes(bytes), .context = 1});
        }
      } else {
        auto victim = driver.live().begin();
        std::advance(victim, static_cast<std::ptrdiff_t>(random() % driver.live().size()));
        const std::uint64_t address = victim->first;
        Allocation taken;
        ASSERT_TRUE(table.begin_free(address, taken));
        if (random() % 10 == 0) {
          table.undo_free(address, taken);  // the driver refused
        } else {
          driver.free(address);
          charged -= table.end_free(address, taken).bytes;
        }
      }
      ASSERT_EQ(charged, driver.held_bytes()) << "seed " << seed << " step " << step;
    }
    table.drop_context(1, [&](const Freed& freed) { charged -= freed.bytes; });
    ASSERT_EQ(charged, 0U) << "seed " << seed;
    table.reset_after_fork();
  }
}

// What the VMM API promises, told naively: memory lives while a handle reference, a mapping or a
// bind does.
struct NaiveMemory {
  std::uint64_t handle = 0;
  std::uint64_t bytes = 0;
  unsigned handle_refs = 0;
  unsigned binds = 0;
  std::set<std::uint64_t> mapped_at{};
  bool lives() const { return handle_refs != 0 || binds != 0 || !mapped_at.empty(); }
};

TEST(PhysicalModel, ChargeIsTheSumOfMemoryThatAnythingHolds) {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random{seed};
    PhysicalTable table;
    std::uint64_t charged = 0;
    const auto release = [&](const Freed& freed, bool) { charged -= freed.bytes; };
    const std::uint64_t multicast = table.add(0xffff, {.multicast = true});
    std::vector<NaiveMemory> all;
    std::uint64_t next_address = 0x7f0000000000;
    std::uint64_t next_offset = 0;
    std::vector<std::uint64_t> free_handles;  // handles come again
    for (std::uint64_t i = 1; i <= 12; ++i) free_handles.push_back(i * 16);
    for (int step = 0; step < 4000; ++step) {
      const auto pick = [&](auto wanted) -> NaiveMemory* {
        std::vector<NaiveMemory*> found;
        for (auto& each : all) {
          if (wanted(each)) found.push_back(&each);
        }
        return found.empty() ? nullptr : found[random() % found.size()];
      };
      const auto has_handle = [](const NaiveMemory& m) { return m.handle_refs != 0; };
      NaiveMemory* memory = nullptr;
      switch (random() % 7) {
        case 0:
          if (free_handles.empty()) break;
          all.push_back({.handle = free_handles.back(),
                         .bytes = kPage * (1 + random() % 8),
                         .handle_refs = 1});
          free_handles.pop_back();
          charged += all.back().bytes;
          table.add(all.back().handle, {.bytes = all.back().bytes});
          break;
        case 1:
          if ((memory = pick(has_handle)) == nullptr) break;
          ++memory->handle_refs;
          ASSERT_TRUE(table.add_handle_ref(memory->handle));
          break;
        case 2: {
          if ((memory = pick(has_handle)) == nullptr) break;
          const std::uint64_t id = table.begin_release(memory->handle);
          ASSERT_NE(id, 0U);
          if (random() % 8 == 0) {
            table.undo_release(memory->handle, id);
            break;
          }
          table.end_release(id, release);
          if (--memory->handle_refs == 0) free_handles.push_back(memory->handle);
          break;
        }
        case 3: {
          if ((memory = pick(has_handle)) == nullptr) break;
          const std::uint64_t id = table.id_of(memory->handle);
          ASSERT_TRUE(table.pin(id));
          table.add_mapping(next_address, memory->bytes, id);
          table.unpin(id, release);
          memory->mapped_at.insert(next_address);
          next_address += memory->bytes + (random() % 2) * kPage;
          break;
        }
        case 4: {
          // One range over everything mapped so far, or one mapping.
          memory = pick([](const NaiveMemory& m) { return !m.mapped_at.empty(); });
          if (memory == nullptr) break;
          if (random() % 20 == 0) {
            table.remove_mappings(0x7f0000000000, next_address - 0x7f0000000000, release);
            for (auto& each : all) each.mapped_at.clear();
            break;
          }
          const std::uint64_t address = *memory->mapped_at.begin();
          table.remove_mappings(address, memory->bytes, release);
          memory->mapped_at.erase(address);
          break;
        }
        case 5: {
          if ((memory = pick(has_handle)) == nullptr || memory->binds != 0) break;
          table.add_bind(multicast, table.id_of(memory->handle), 0, next_offset, memory->bytes);
          next_offset += memory->bytes;
          ++memory->binds;
          break;
        }
        default:
          if (random() % 30 != 0) break;
          table.remove_binds(multicast, 0, 0, next_offset, release);
          for (auto& each : all) each.binds = 0;
      }
      std::uint64_t expected = 0;
      std::erase_if(all, [](const NaiveMemory& m) { return !m.lives(); });
      for (const auto& each : all) expected += each.bytes;
      ASSERT_EQ(charged, expected) << "seed " << seed << " step " << step;
      ASSERT_EQ(table.size(), all.size() + 1) << "seed " << seed << " step " << step;
    }
    table.reset_after_fork();
  }
}

// A pool of scattered steps: a request finds room in what is unused or takes steps of its own, as
// the pool likes, and steps go back at random, with up to three requests in flight while
// settlements read. The charge is never below what is reserved, and equal once everything is
// settled.
TEST(PoolModel, ChargeCoversTheReservationAtEveryStep) {
  struct InFlight {
    PoolAccount::Request request;
    std::uint64_t bytes;
  };
  for (unsigned seed = 1; seed <= 40; ++seed) {
    std::mt19937_64 random{seed};
    PoolAccount account;
    std::uint64_t charged = 0;
    std::uint64_t used = 0;
    std::uint64_t reserved = 0;
    std::vector<InFlight> in_flight;
    for (int step = 0; step < 3000; ++step) {
      switch (random() % 5) {
        case 0:
        case 1: {
          if (in_flight.size() >= 3) break;
          InFlight next{};
          next.bytes = random() % 4 == 0 ? random() % (200 * kMiB) : random() % kMiB;
          if (account.begin(next.bytes, next.request,
                            [&](std::uint64_t extra) { return charged += extra, true; })) {
            in_flight.push_back(next);
          }
          break;
        }
        case 2: {
          if (in_flight.empty()) break;
          const InFlight done = in_flight.back();
          in_flight.pop_back();
          if (random() % 6 == 0) {
            charged -= account.cancel(done.request);
            break;
          }
          if (done.bytes > reserved - used || random() % 2 == 0)
            reserved += driver_model::pool_growth_bytes(done.bytes);
          used += done.bytes;
          account.end(done.request);
          break;
        }
        case 3: {
          const auto settlement = account.begin_settlement();
          const auto settled = account.end_settlement(settlement, reserved);
          charged -= settled.released_bytes;
          ASSERT_EQ(settled.missing_bytes, 0U) << "seed " << seed << " step " << step;
          break;
        }
        default:
          used -= used == 0 ? 0 : random() % used;
          if (random() % 3 == 0) reserved = driver_model::pool_growth_bytes(used);
      }
      ASSERT_EQ(charged, account.charged_bytes()) << "seed " << seed << " step " << step;
      ASSERT_GE(charged, reserved) << "seed " << seed << " step " << step;
    }
    for (const auto& each : in_flight) charged -= account.cancel(each.request);
    charged -= account.end_settlement(account.begin_settlement(), reserved).released_bytes;
    ASSERT_EQ(charged, reserved) << "seed " << seed;
  }
}

}  // namespace
}  // namespace vgpu::limiter
