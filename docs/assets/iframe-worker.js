// The search runs in a worker, which browsers refuse to start from files on a disk. There, its script runs in a hidden frame.
if (location.protocol === "file:") {
  window.Worker = function (address) {
    const worker = new EventTarget();
    const frame = document.body.appendChild(document.createElement("iframe"));
    const inside = frame.contentWindow;
    frame.hidden = true;
    inside.document.open();
    inside.document.write("<!doctype html><title>search</title>");
    inside.document.close();
    inside.postMessage = (data) => worker.dispatchEvent(new MessageEvent("message", { data }));
    const script = inside.document.createElement("script");
    const loaded = new Promise((resolve) => script.addEventListener("load", resolve));
    script.src = new URL(address, location.href);
    inside.document.head.append(script);
    worker.postMessage = (data) => loaded.then(() => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
    worker.terminate = () => frame.remove();
    return worker;
  };
}
