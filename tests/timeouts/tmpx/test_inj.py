import json, subprocess, sys
def test_x(target):
    o = dict(host=target.host, port=target.port, username=target.alice.name, private_key=str(target.alice.key.path))
    import os
    r = subprocess.run([sys.executable, "/tmp/inject.py", json.dumps(o), os.environ.get("INJ","sync.py,lock.py"), os.environ.get("NB","0")], capture_output=True, text=True)
    print(r.stdout[-6000:]); print(r.stderr[-5000:])
