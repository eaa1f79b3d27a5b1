#include "lib/net/waiting_room.h"

#include <gtest/gtest.h>

namespace muster::net {
namespace {

std::string Order(WaitingRoom& room) {
  std::string order;
  while (const std::optional<Guest> guest = room.Next()) {
    order += guest->peer + std::to_string(guest->fd) + " ";
  }
  return order;
}

TEST(WaitingRoom, PeersTakeTurnsAndEachKeepsItsOrder) {
  WaitingRoom room;
  for (int fd = 1; fd <= 4; ++fd) room.Enter({fd, "a"});
  room.Enter({5, "b"});
  room.Enter({6, "c"});
  room.Enter({7, "b"});
  EXPECT_EQ(Order(room), "a1 b5 c6 a2 b7 a3 a4 ");
  EXPECT_TRUE(room.empty());
}

TEST(WaitingRoom, WhoComesLaterIsNotBehindACrowd) {
  WaitingRoom room;
  for (int fd = 1; fd <= 1000; ++fd) room.Enter({fd, "m"});
  EXPECT_EQ(room.Next()->peer, "m");
  room.Enter({1001, "b"});
  room.Enter({1002, "z"});
  EXPECT_EQ(room.Next()->peer, "z");
  EXPECT_EQ(room.Next()->peer, "b");
  EXPECT_EQ(room.Next()->fd, 2);
}

TEST(WaitingRoom, TheLastOfTheLongestQueueIsTurnedAway) {
  WaitingRoom room;
  EXPECT_FALSE(room.TurnAway().has_value());
  room.Enter({1, "a"});
  for (int fd = 2; fd <= 4; ++fd) room.Enter({fd, "b"});
  EXPECT_EQ(room.TurnAway()->fd, 4);
  EXPECT_EQ(room.TurnAway()->fd, 3);
  EXPECT_EQ(Order(room), "a1 b2 ");
}

}  // namespace
}  // namespace muster::net
