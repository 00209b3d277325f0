"""The services that every gRPC tool expects: health and reflection, in both versions."""

import unittest

import grpc
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from support import stubs
from support.server import Server

# Administration may have a listener of its own.
SERVICES = {service.full_name for service in stubs.SERVICES if service.name != "AdminService"}


class StandardServices(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("serve").start()
        cls.addClassCleanup(cls.server.remove)
        cls.channel = grpc.insecure_channel(cls.server.address)
        cls.addClassCleanup(cls.channel.close)

    def test_health(self):
        health = health_pb2_grpc.HealthStub(self.channel)
        for name in ("", *SERVICES):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
            self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING, name)
        with self.assertRaises(grpc.RpcError) as raised:
            health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=10)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.NOT_FOUND)

    def reflect(self, version: str, *requests):
        # The two versions have the same messages under two names.
        call = self.channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        return list(call(iter(requests), timeout=10))

    def test_reflection_lists_every_service(self):
        for version in ("v1", "v1alpha"):
            with self.subTest(version):
                (answer,) = self.reflect(version, reflection_pb2.ServerReflectionRequest(list_services=""))
                names = {service.name for service in answer.list_services_response.service}
                self.assertLessEqual(SERVICES, names)
                self.assertIn("grpc.health.v1.Health", names)

    def test_reflection_describes_a_service(self):
        for version in ("v1", "v1alpha"):
            with self.subTest(version):
                request = reflection_pb2.ServerReflectionRequest(file_containing_symbol="continuo.v1.ChannelService")
                (answer,) = self.reflect(version, request)
                files = [
                    descriptor_pb2.FileDescriptorProto.FromString(data)
                    for data in answer.file_descriptor_response.file_descriptor_proto
                ]
                methods = {m.name for file in files for service in file.service for m in service.method}
                self.assertLessEqual({"Append", "Read", "Produce", "Attach"}, methods)

    def test_what_is_not_there_is_unimplemented(self):
        for path in ("/continuo.v1.SessionService/Nothing", "/no.such.Service/Nothing"):
            call = self.channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
            with self.assertRaises(grpc.RpcError) as raised:
                call(b"", timeout=10)
            self.assertEqual(raised.exception.code(), grpc.StatusCode.UNIMPLEMENTED, path)
