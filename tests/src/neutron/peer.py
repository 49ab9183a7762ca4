"""A server of oslo.messaging that answers, fails and speaks as a test asks it to: peer.py CONFIGURATION"""

import sys
import threading

import oslo_messaging
from oslo_config import cfg

configuration = cfg.CONF
oslo_messaging.set_transport_defaults("neutron")
configuration(["--config-file", sys.argv[1]], project="peer")
transport = oslo_messaging.get_rpc_transport(configuration)


def client(topic, version):
    target = oslo_messaging.Target(topic=topic, version=version)
    return oslo_messaging.get_rpc_client(transport, target)


class Plugin:
    target = oslo_messaging.Target(version="1.9")

    def echo(self, context, **arguments):
        return arguments

    def fail(self, context):
        raise ValueError("there is no such port")

    def wait(self, context, **notification):
        """Never answers; says something when it begins, if it is told to."""
        if notification:
            self.say(context, **notification)
        threading.Event().wait()

    def say(self, context, topic, method, version, arguments, host=None):
        """Sends a notification to all, or to one host."""
        whom = {"server": host} if host else {"fanout": True}
        client(topic, version).prepare(**whom).cast({}, method, **arguments)

    def ask(self, context, topic, method, host):
        """Calls a host, and returns what it answers."""
        try:
            return client(topic, "1.0").prepare(server=host, timeout=10).call({}, method)
        except oslo_messaging.RemoteError as error:
            return error.exc_type


server = oslo_messaging.get_rpc_server(
    transport,
    oslo_messaging.Target(topic="q-plugin", server="peer"),
    [Plugin()],
    executor="threading",
    access_policy=oslo_messaging.DefaultRPCAccessPolicy,
)
server.start()
print("ready", flush=True)
threading.Event().wait()
