"""Services, replicas and the balancer together, from the first migration to the last process."""

import asyncio

from .balancer import Balancer
from .calls import Client, Heard
from .replicas import Keys, Replica, migrate, settings
from .services import Services


class Cluster:
    def __init__(self, replicas: int, services: Services | None = None, more: dict[str, str] | None = None):
        self.keys = Keys()
        self.heard = Heard()
        self.services = services or Services()
        self._wanted = replicas
        self._more = more or {}
        self.replicas: list[Replica] = []
        self._clients: list[Client] = []

    async def __aenter__(self) -> "Cluster":
        try:
            await self.services.up()
            self.environment = {**settings(self.keys, self.services.settings(), self._wanted), **self._more}
            await migrate(self.environment)
            self.replicas = [Replica(number, self.environment) for number in range(self._wanted)]
            await asyncio.gather(*(replica.start() for replica in self.replicas))
            self.balancer = Balancer(self.replicas)
            await self.balancer.start()
        except BaseException:
            await self._remove()
            raise
        return self

    async def __aexit__(self, kind, error, trace) -> None:
        if error is not None and not isinstance(error, asyncio.CancelledError):
            print("last words:", *(replica.last_words() for replica in self.replicas), sep="\n", flush=True)
        await self.balancer.stop()
        await self._remove()

    async def _remove(self) -> None:
        await asyncio.gather(*(client.close() for client in self._clients), return_exceptions=True)
        try:
            await asyncio.gather(*(replica.remove() for replica in self.replicas))
        finally:
            await self.services.down()

    def client(self, key: str | None = None) -> Client:
        """Through the balancer, over a connection of its own."""
        return self._keep(Client(lambda: self.balancer.address, key or self.keys.dev, self.heard))

    def client_of(self, replica: Replica, key: str | None = None) -> Client:
        """Of one replica."""
        return self._keep(Client(lambda: replica.address, key or self.keys.dev, self.heard))

    def clients(self) -> list[Client]:
        """One per replica."""
        return [self.client_of(replica) for replica in self.replicas]

    def _keep(self, client: Client) -> Client:
        self._clients.append(client)
        return client
