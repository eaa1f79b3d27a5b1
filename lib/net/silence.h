// Whose program is stuck, by when the kernel last heard of it. Pure; one thread at a time.
//
// Who is answered late asks late. So nobody's silence counts from before we were awake, nor from
// before we had read what had come. Times are Clock::Uptime.
#pragma once

#include <absl/time/time.h>

namespace muster::net {

class SilenceWatch {
 public:
  // What is remembered of one connection.
  struct Peer {
    absl::Duration behind = -absl::InfiniteDuration();  // when something of it last was unread
  };

  // `limit`: of silence. `round`: how far apart the rounds are; one that comes much later says
  // that we slept.
  SilenceWatch(absl::Duration limit, absl::Duration round) : limit_(limit), round_(round) {}

  // A round of looks at all peers begins.
  void Begin(absl::Duration now);
  // `silence`: since something last came. `unread`: some of it is still to be read.
  bool IsStuck(Peer& peer, absl::Duration silence, bool unread) const;
  absl::Duration now() const { return now_; }  // of this round

 private:
  const absl::Duration limit_;
  const absl::Duration round_;
  absl::Duration now_ = -absl::InfiniteDuration();
  absl::Duration awake_ = -absl::InfiniteDuration();  // since then
};

}  // namespace muster::net
